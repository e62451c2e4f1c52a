// Command volumes gives each claim of the storage class "stackyard" a folder of the node, and removes the folder with
// the claim. It looks once a second and acts on what it sees, so it may be killed at any moment.
//
//	volumes KUBECONFIG FOLDER NODE
//
// The size of a claim is noted, not enforced: the folders share the machine's disk.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	class    = "stackyard"
	selected = "volume.kubernetes.io/selected-node"
	claims   = "/api/v1/persistentvolumeclaims"
	volumes  = "/api/v1/persistentvolumes"
)

type object = map[string]any

type metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	UID         string            `json:"uid"`
	Annotations map[string]string `json:"annotations"`
}

type claim struct {
	Metadata metadata `json:"metadata"`
	Spec     struct {
		Class  string   `json:"storageClassName"`
		Volume string   `json:"volumeName"`
		Mode   string   `json:"volumeMode"`
		Access []string `json:"accessModes"`
		Wanted struct {
			Requests map[string]string `json:"requests"`
		} `json:"resources"`
	} `json:"spec"`
}

type volume struct {
	Metadata metadata `json:"metadata"`
	Spec     struct {
		Class  string `json:"storageClassName"`
		Policy string `json:"persistentVolumeReclaimPolicy"`
	} `json:"spec"`
	Status struct {
		Phase string `json:"phase"`
	} `json:"status"`
}

type server struct {
	address, token string
	client         *http.Client
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: volumes KUBECONFIG FOLDER NODE")
	}
	api, err := connect(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for ; ; time.Sleep(time.Second) {
		if err := look(api, os.Args[2], os.Args[3]); err != nil {
			log.Print(err)
		}
	}
}

// look does what is to be done now; the first thing that cannot be done ends it until the next look.
func look(api *server, folder, node string) error {
	var asked struct{ Items []claim }
	if err := api.call("GET", claims, nil, &asked); err != nil {
		return err
	}
	for _, one := range asked.Items {
		if one.Spec.Class == class && one.Spec.Volume == "" && one.Metadata.Annotations[selected] == node {
			if err := provide(api, folder, node, one); err != nil {
				return err
			}
		}
	}
	var there struct{ Items []volume }
	if err := api.call("GET", volumes, nil, &there); err != nil {
		return err
	}
	for _, one := range there.Items {
		if one.Spec.Class == class && one.Spec.Policy == "Delete" && one.Status.Phase == "Released" {
			if err := remove(api, folder, one.Metadata.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func provide(api *server, folder, node string, one claim) error {
	if one.Spec.Mode == "Block" {
		return fmt.Errorf("%s/%s asks for a block device: only file systems are given", one.Metadata.Namespace, one.Metadata.Name)
	}
	name := "pvc-" + one.Metadata.UID
	path := filepath.Join(folder, name)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	// Whatever the mask: pods run as users of their own.
	if err := os.Chmod(path, 0o777); err != nil {
		return err
	}
	term := object{"key": "kubernetes.io/hostname", "operator": "In", "values": []string{node}}
	log.Printf("%s for %s/%s", name, one.Metadata.Namespace, one.Metadata.Name)
	return api.call("POST", volumes, object{
		"apiVersion": "v1",
		"kind":       "PersistentVolume",
		"metadata":   object{"name": name, "annotations": object{"pv.kubernetes.io/provisioned-by": "stackyard/volumes"}},
		"spec": object{
			"storageClassName":              class,
			"persistentVolumeReclaimPolicy": "Delete",
			"capacity":                      one.Spec.Wanted.Requests,
			"accessModes":                   one.Spec.Access,
			"local":                         object{"path": path},
			"nodeAffinity":                  object{"required": object{"nodeSelectorTerms": []object{{"matchExpressions": []object{term}}}}},
			"claimRef": object{
				"apiVersion": "v1",
				"kind":       "PersistentVolumeClaim",
				"namespace":  one.Metadata.Namespace,
				"name":       one.Metadata.Name,
				"uid":        one.Metadata.UID,
			},
		},
	}, nil)
}

func remove(api *server, folder, name string) error {
	// Only what we named ourselves: the path in a volume is anybody's to write who may make volumes.
	if !strings.HasPrefix(name, "pvc-") || strings.ContainsAny(name, "/") {
		return fmt.Errorf("the volume %s is not ours to remove", name)
	}
	if err := os.RemoveAll(filepath.Join(folder, name)); err != nil {
		return err
	}
	log.Printf("%s removed", name)
	return api.call("DELETE", volumes+"/"+name, nil, nil)
}

// call answers nil, too, where the thing to make is there or the thing to remove is gone.
func (api *server) call(method, path string, body any, into any) error {
	sent, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(method, api.address+path, bytes.NewReader(sent))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+api.token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := api.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode == http.StatusConflict || (method == "DELETE" && answer.StatusCode == http.StatusNotFound) {
		return nil
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %.300s", method, path, answer.Status, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// connect reads a kubeconfig of this cluster's, which is JSON.
func connect(file string) (*server, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var known struct {
		Clusters []struct {
			Cluster struct {
				Server    string `json:"server"`
				Authority []byte `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
		Users []struct {
			User struct {
				Token string `json:"token"`
			} `json:"user"`
		} `json:"users"`
	}
	if err := json.Unmarshal(text, &known); err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(known.Clusters[0].Cluster.Authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	return &server{known.Clusters[0].Cluster.Server, known.Users[0].User.Token, client}, nil
}
