// Package v1alpha2 has the one type of k8s.io/cri-api, which Debian does not package, that stargz-snapshotter's resolver
// names. Only what reads registry settings in the form of containerd's CRI plug-in uses it, and nothing here has such.
package v1alpha2

// AuthConfig has the fields that are read.
type AuthConfig struct {
	Username      string
	Password      string
	Auth          string
	ServerAddress string
	IdentityToken string
}
