// Command credentials FOLDER NODE ADDRESS... makes a cluster's keys and certificates in FOLDER, for an API server and a
// node at the addresses. Keys are 0600.
//
// There are two authorities, because whoever holds a certificate of the cluster's must not thereby read its store.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const life = 5 * 365 * 24 * time.Hour

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "credentials:", err)
		os.Exit(1)
	}
}

func run(folder, node string, addresses []string) error {
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	cluster, err := newAuthority(folder, "ca", "stackyard cluster")
	if err != nil {
		return err
	}
	store, err := newAuthority(folder, "etcd-ca", "stackyard cluster store")
	if err != nil {
		return err
	}
	leaves := []struct {
		by    authority
		file  string
		name  pkix.Name
		hosts []string
	}{
		{cluster, "apiserver", pkix.Name{CommonName: "kube-apiserver"}, append(names, addresses...)},
		{cluster, "kubelet", pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}, append([]string{node}, addresses...)},
		{cluster, "kubelet-client", pkix.Name{CommonName: "stackyard:kubelet-client"}, nil},
		{store, "etcd", pkix.Name{CommonName: "etcd"}, []string{"localhost", "127.0.0.1"}},
		{store, "etcd-client", pkix.Name{CommonName: "kube-apiserver"}, nil},
	}
	for _, leaf := range leaves {
		if err := leaf.by.issue(folder, leaf.file, leaf.name, leaf.hosts); err != nil {
			return err
		}
	}
	return serviceAccountKey(folder)
}

func newAuthority(folder, file, name string) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	template := described(pkix.Name{CommonName: name})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, err
	}
	return authority{certificate, key}, write(folder, file+".crt", "CERTIFICATE", der, 0o644)
}

func (by authority) issue(folder, file string, name pkix.Name, hosts []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := described(name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, host := range hosts {
		if address := net.ParseIP(host); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key)
	if err != nil {
		return err
	}
	if err := write(folder, file+".crt", "CERTIFICATE", der, 0o644); err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return write(folder, file+".key", "PRIVATE KEY", private, 0o600)
}

func serviceAccountKey(folder string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := write(folder, "accounts.pub", "PUBLIC KEY", public, 0o644); err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return write(folder, "accounts.key", "PRIVATE KEY", private, 0o600)
}

func described(name pkix.Name) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err)
	}
	now := time.Now()
	// Begun an hour ago: clocks differ.
	return &x509.Certificate{SerialNumber: serial, Subject: name, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life)}
}

func write(folder, file, kind string, der []byte, mode os.FileMode) error {
	return os.WriteFile(filepath.Join(folder, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
