package syntax

import "iter"

// Operands are the expressions right inside of x, in the order in which panc makes operations of them: of an assignment the value
// first and then the targets from right to left.
func Operands(x Expr) iter.Seq[Expr] {
	return func(yield func(Expr) bool) {
		var list []Expr
		switch x := x.(type) {
		case *Var:
			list = x.Index
		case *Call:
			list = x.Args
		case *Block:
			list = x.List
		case *Group:
			yield(x.X)
		case *Unary:
			yield(x.X)
		case *Binary:
			_ = yield(x.X) && yield(x.Y)
		case *Set:
			if !yield(x.Value) {
				return
			}
			for i := len(x.Targets) - 1; i >= 0; i-- {
				if !yield(x.Targets[i]) {
					return
				}
			}
		case *If:
			_ = yield(x.Cond) && yield(x.Then) && x.Else != nil && yield(x.Else)
		case *While:
			_ = yield(x.Cond) && yield(x.Body)
		case *For:
			_ = yield(x.Init) && yield(x.Cond) && yield(x.Step) && yield(x.Body)
		case *Foreach:
			_ = yield(x.Key) && yield(x.Value) && yield(x.In) && yield(x.Body)
		}
		for _, sub := range list {
			if !yield(sub) {
				return
			}
		}
	}
}

// IsTarget says whether the operand v of x is a variable that x sets.
func IsTarget(x Expr, v *Var) bool {
	switch x := x.(type) {
	case *Set:
		return Expr(v) != x.Value
	case *Foreach:
		return v == x.Key || v == x.Value
	}
	return false
}
