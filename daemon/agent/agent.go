// Package agent is what the agents have in common: a folder with an identity that one process owns, a log that rotates and
// whose newest lines the server may see, secrets that commands print, the way to the server, and the note by which a
// health check judges a running agent. Package call talks to the server, dial to processes.
package agent
