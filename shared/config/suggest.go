package config

import "strings"

// Suggest returns the word of among that is most likely meant by a mistyped one, or "" when none is near.
func Suggest(word string, among []string) string {
	best, bestAt := "", len(word)/3+1 // more edits than a third of the word is another word
	for _, w := range among {
		if d := distance(strings.ToLower(word), strings.ToLower(w)); d <= bestAt && (best == "" || d < bestAt) {
			best, bestAt = w, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two short words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j]+1, row[j+1]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
