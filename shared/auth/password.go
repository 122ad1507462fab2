package auth

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// params are argon2id's cost.
type params struct {
	memory  uint32 // KiB
	time    uint32
	threads uint8
}

// current is the cost of new hashes, a recommendation of OWASP: a few tens of milliseconds of one core.
func current() params { return params{memory: 19 * 1024, time: 2, threads: 1} }

// Limits on what a stored hash may ask for: a damaged or planted one must not take the memory of the machine.
const (
	maxMemory   = 256 * 1024 // KiB
	maxTime     = 16
	maxThreads  = 8
	saltSize    = 16
	hashSize    = 32
	maxHashes   = 2   // computed at once, in the whole process
	maxPassword = 512 // bytes
)

// slots bounds how many hashes are computed at once: each takes memory and a core, and a crowd at the login page must
// not take all. Others wait their turn. It is a limit of the process, like its memory, and no state.
var slots = make(chan struct{}, maxHashes)

// ErrPolicy is in the chain of every error of CheckPolicy.
var ErrPolicy = errors.New("the password is not good enough")

// HashPassword returns an argon2id hash in PHC form: "$argon2id$v=19$m=19456,t=2,p=1$salt$hash".
func HashPassword(password string) (string, error) {
	if password == "" || len(password) > maxPassword {
		return "", fmt.Errorf("password must have 1 to %d bytes", maxPassword)
	}
	salt := random(saltSize)
	cost := current()
	sum := cost.hash(password, salt, hashSize)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, cost.memory, cost.time, cost.threads,
		b64.EncodeToString(salt), b64.EncodeToString(sum)), nil
}

// CheckPassword says whether the password belongs to the hash, and whether the hash should be renewed because it was made
// with another cost than new ones. An empty or damaged hash takes as long to refuse as a good one with a wrong password:
// callers pass "" for a user that does not exist, and the answer's time tells nobody.
func CheckPassword(hash, password string) (ok, rehash bool) {
	if len(password) > maxPassword {
		password = ""
	}
	p, salt, want, err := parseHash(hash)
	if err != nil {
		_ = current().hash(password, make([]byte, saltSize), hashSize)
		return false, false
	}
	got := p.hash(password, salt, uint32(len(want))) //nolint:gosec // parseHash bounds the length
	if subtle.ConstantTimeCompare(got, want) != 1 || password == "" {
		return false, false
	}
	return true, p != current() || len(want) != hashSize
}

func (p params) hash(password string, salt []byte, size uint32) []byte {
	slots <- struct{}{}
	defer func() { <-slots }()
	return argon2.IDKey([]byte(password), salt, p.time, p.memory, p.threads, size)
}

var errHash = errors.New("not an argon2id hash")

func parseHash(s string) (p params, salt, sum []byte, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, nil, nil, errHash
	}
	var rest string
	if n, _ := fmt.Sscanf(parts[3]+" ", "m=%d,t=%d,p=%d%s", &p.memory, &p.time, &p.threads, &rest); n != 3 {
		return p, nil, nil, errHash
	}
	if p.memory < 8*uint32(p.threads) || p.memory > maxMemory || p.time < 1 || p.time > maxTime || p.threads < 1 || p.threads > maxThreads {
		return p, nil, nil, errHash
	}
	if salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil || len(salt) < 8 || len(salt) > 64 {
		return p, nil, nil, errHash
	}
	if sum, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(sum) < 16 || len(sum) > 64 {
		return p, nil, nil, errHash
	}
	return p, salt, sum, nil
}

// minPassword is the fewest characters of a password.
const minPassword = 8

// CheckPolicy refuses passwords that are too easy, saying what is missing: at least eight characters with a letter, a
// digit and a special character, and not the user's name.
func CheckPolicy(password, username string) error {
	var letter, digit, special bool
	for _, r := range password {
		switch {
		case unicode.IsLetter(r):
			letter = true
		case unicode.IsDigit(r):
			digit = true
		default:
			special = true
		}
	}
	var missing []string
	if utf8.RuneCountInString(password) < minPassword {
		missing = append(missing, fmt.Sprintf("at least %d characters", minPassword))
	}
	if !letter {
		missing = append(missing, "a letter")
	}
	if !digit {
		missing = append(missing, "a digit")
	}
	if !special {
		missing = append(missing, "a special character")
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: it needs %s", ErrPolicy, strings.Join(missing, ", "))
	}
	if len(password) > maxPassword {
		return fmt.Errorf("%w: it must not be longer than %d bytes", ErrPolicy, maxPassword)
	}
	lower := strings.ToLower(password)
	name, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(username)), "@")
	if len(name) >= 4 && strings.Contains(lower, name) {
		return fmt.Errorf("%w: it must not contain the user name", ErrPolicy)
	}
	return nil
}

// Passwords makes and checks hashes. A program that has no memory or no time to spare for them, a guest, has somebody else do it.
type Passwords interface {
	// Hash returns a hash as HashPassword does.
	Hash(password string) (string, error)
	// Check is CheckPassword. What it cannot check does not belong to the hash.
	Check(hash, password string) (ok, rehash bool)
}

// Argon2 computes hashes in this process.
type Argon2 struct{}

var _ Passwords = Argon2{}

// Hash implements Passwords.
func (Argon2) Hash(password string) (string, error) { return HashPassword(password) }

// Check implements Passwords.
func (Argon2) Check(hash, password string) (ok, rehash bool) { return CheckPassword(hash, password) }
