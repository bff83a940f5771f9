package model

import (
	"iter"

	"github.com/tidwall/btree"
)

// table is a persistent map of documents in the natural order of their names: a copy is made in constant time, and
// setting one document of a copy copies one path of the tree.
type table[K ~string, V any] struct {
	tree *btree.BTreeG[row[K, V]]
}

type row[K ~string, V any] struct {
	key K
	doc *V
}

func newTable[K ~string, V any]() table[K, V] {
	return table[K, V]{newTree(func(a, b row[K, V]) bool { return Natural(string(a.key), string(b.key)) < 0 })}
}

func newTree[T any](less func(a, b T) bool) *btree.BTreeG[T] {
	return btree.NewBTreeGOptions(less, btree.Options{NoLocks: true, Degree: 12})
}

func (t table[K, V]) get(k K) *V {
	r, _ := t.tree.Get(row[K, V]{key: k})
	return r.doc
}

func (t table[K, V]) set(k K, v *V) { t.tree.Set(row[K, V]{k, v}) }

func (t table[K, V]) remove(k K) { t.tree.Delete(row[K, V]{key: k}) }

func (t table[K, V]) all() iter.Seq[*V] {
	return func(yield func(*V) bool) {
		t.tree.Scan(func(r row[K, V]) bool { return yield(r.doc) })
	}
}

// copy may not run at the same time on one table: the tree stamps the original, too. Readers are not disturbed.
func (t table[K, V]) copy() table[K, V] { return table[K, V]{t.tree.Copy()} }
