//go:build tools

// Package peers pins the reference implementations that golden vectors are compared with.
package peers

import _ "github.com/ipfs/kubo/core"
