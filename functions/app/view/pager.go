package view

import "strconv"

// PageRows is the largest number of rows of a page.
const PageRows = 200

// Pager leads to the pages before and after.
type Pager struct {
	From, To, Total int
	Prev, Next      string
}

// Paged cuts the page that the address asks for out of the rows.
func Paged[T any](v *Visit, rows []T) ([]T, Pager) { return PagedBy(v, "page", PageRows, rows) }

// PagedBy is Paged for a list of its own parameter and size, beside others on the same page.
func PagedBy[T any](v *Visit, param string, size int, rows []T) ([]T, Pager) {
	n, err := strconv.Atoi(v.Query(param))
	if err != nil || n < 1 {
		n = 1
	}
	last := max(1, (len(rows)+size-1)/size)
	n = min(n, last)
	from, to := (n-1)*size, min(n*size, len(rows))
	pg := Pager{From: from + 1, To: to, Total: len(rows)}
	if n > 1 {
		pg.Prev = v.Link(param, strconv.Itoa(n-1))
	}
	if n < last {
		pg.Next = v.Link(param, strconv.Itoa(n+1))
	}
	return rows[from:to], pg
}
