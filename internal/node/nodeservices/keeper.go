package nodeservices

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/pod"
)

const (
	configDir = "etc/kubernetes/registry" // pod.ConfigDir in the host's root
	etcdDir   = "var/lib/etcd"
)

// Keeper keeps the store of one node. It is used by one goroutine.
type Keeper struct {
	host      durable.FS // the host's root directory
	manifests string     // the folder of static pods in it; empty for none
	user      int        // of the store
	// give makes a folder another user's, with a mode: what durable.FS cannot.
	give func(folder string, user int, mode fs.FileMode) error
}

// New makes a Keeper for the host with this root directory. staticPods is the folder in which
// its kubelet looks for static pods, see StaticPodPath. Without one there is no manifest: the
// pod is then a DaemonSet's, and all else is as it is with one.
func New(root *durable.Dir, staticPods string) *Keeper {
	return &Keeper{
		host: root, manifests: inHost(staticPods), user: pod.User,
		give: func(folder string, user int, mode fs.FileMode) error {
			return errors.Join(root.Root().Lchown(folder, user, user), root.Root().Chmod(folder, mode))
		},
	}
}

// Apply makes the node what the Config says, as far as it can be: without a certificate for
// its key, only the key is made. What is there then is returned, unless there is an error. An
// error, or a crash, may stop it anywhere; the next Apply goes on.
func (k *Keeper) Apply(c Config) (Found, error) {
	if err := c.check(); err != nil {
		return Found{}, fmt.Errorf("what the node is to run: %w", err)
	}
	if err := k.makeConfigDir(); err != nil {
		return Found{}, err
	}
	key, err := k.ensureKey()
	if err != nil {
		return Found{}, err
	}
	if (pki.KeyPair{Cert: string(c.Certificate), Key: key}).Belongs() != nil {
		return k.Look(c)
	}
	if err := k.makeDataDir(inHost(c.Pod.Path)); err != nil {
		return Found{}, err
	}
	for _, f := range k.files(c, key) {
		if _, err := k.put(f); err != nil {
			return Found{}, err
		}
	}
	// Also what another process renamed before it was killed: a manifest may follow.
	if err := k.sync(configDir); err != nil {
		return Found{}, err
	}
	if k.manifests != "" {
		if err := k.putManifest(c); err != nil {
			return Found{}, err
		}
	}
	return k.Look(c)
}

// ensureKey is the key of this node, made if there is none. One that cannot be read is of no
// use to anybody.
func (k *Keeper) ensureKey() (string, error) {
	data, _, err := k.read(path.Join(configDir, fileKey))
	if err != nil {
		return "", err
	}
	key := string(data)
	if _, err := pki.Request(key, nil); err != nil {
		if key, err = pki.NewKey(); err != nil {
			return "", err
		}
	}
	changed, err := k.put(k.files(Config{}, key)[0])
	if err == nil && changed {
		err = k.sync(configDir) // before anybody signs for it
	}
	return key, err
}

// files are those that the store serves by, in the order of writing, the key first.
func (k *Keeper) files(c Config, key string) []file {
	var all []file
	add := func(base string, data []byte) {
		name := path.Join(configDir, base)
		all = append(all, file{name, name + durable.Suffix, data, k.user})
	}
	add(fileKey, []byte(key))
	add(fileLayout, c.Layout)
	add(fileUsers, c.Users)
	add(filePins, c.Pins)
	add(fileStores, c.Stores)
	add(fileCertificate, c.Certificate)
	return all
}

func (k *Keeper) putManifest(c Config) error {
	if err := k.makeFolders(k.manifests); err != nil {
		return err
	}
	f, err := k.manifest(c)
	if err != nil {
		return err
	}
	changed, err := k.put(f)
	if err == nil && changed {
		err = k.sync(k.manifests)
	}
	return err
}

// manifest is the file of the static pod. There is nothing secret in it: who may see pods sees
// it. The kubelet reads every file in the folder that does not begin with a dot.
func (k *Keeper) manifest(c Config) (file, error) {
	c.Pod.BesideEtcd = k.besideEtcd(inHost(c.Pod.Path))
	template := c.Pod.Template()
	text, err := yaml.Marshal(corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.PodStore, Labels: template.Labels, Annotations: template.Annotations},
		Spec:       template.Spec,
	})
	if err != nil {
		return file{}, fmt.Errorf("encode the static pod: %w", err)
	}
	const base = v1alpha1.PodStore + ".yaml"
	return file{path.Join(k.manifests, base), path.Join(k.manifests, "."+base+durable.Suffix), text, os.Geteuid()}, nil
}

// besideEtcd reports whether an etcd may be on the disk of a folder. Of a link it is not known.
func (k *Keeper) besideEtcd(data string) bool {
	etcd, err := k.host.Lstat(etcdDir)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	mine, errMine := k.host.Lstat(data)
	return err != nil || errMine != nil || !etcd.IsDir() || deviceOf(etcd) == deviceOf(mine)
}

// Remove takes the store from the node, the manifest first: it never stands without its files.
// What was kept stays. It is fine if there is nothing.
func (k *Keeper) Remove() error {
	if err := k.RemoveManifest(); err != nil {
		return err
	}
	files := k.files(Config{}, "")
	slices.Reverse(files)
	if err := k.clear(configDir, files); err != nil {
		return err
	}
	rest, err := k.host.ReadDir(configDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look into /%s: %w", configDir, err)
	case len(rest) > 0:
		return nil // they are not ours
	}
	if err := k.host.Remove(configDir); err != nil {
		return fmt.Errorf("remove /%s: %w", configDir, err)
	}
	return k.sync(path.Dir(configDir))
}

// RemoveManifest takes the static pod alone from the node: another pod serves by its files.
func (k *Keeper) RemoveManifest() error {
	if k.manifests == "" {
		return nil
	}
	f, err := k.manifest(Config{})
	if err != nil {
		return err
	}
	return k.clear(k.manifests, []file{f})
}

// clear removes files of ours from a folder. They are gone from the disk when it returns.
func (k *Keeper) clear(folder string, files []file) error {
	if err := k.trusted(folder); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	for _, f := range files {
		if _, err := k.drop(f); err != nil {
			return err
		}
	}
	return k.sync(folder) // also what another process removed before it was killed
}
