// Package backup is the store's area of backups: what is asked for, how far each job is, which parts of a full read and of the
// oplog are stored, snapshots, restores and the daemons. Bulk bytes are objects in a blockstore; here is what makes them count.
package backup
