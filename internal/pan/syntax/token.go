package syntax

// kind is the kind of a token. The numbers are those of panc's generated lexer: its messages list what they expected in this order.
type kind uint8

const (
	tEOF kind = iota
	_
	_
	_ // comment
	_ // annotation
	_
	_
	tLBrace
	tOptional // ?
	tColon
	tSemicolon
	tComma
	tLParen
	tRParen
	tLBracket
	tRBracket
	tRBrace
	tAssign
	tPlus
	tMinus
	tMod
	tDiv
	tNot
	tGT
	tLT
	tRange // ..
	tOr
	tAnd
	tBitOr
	tBitXor
	tBitAnd
	tBitNot
	tEQ
	tNE
	tGE
	tLE
	tAssignDefault // ?=
	tHeredocMark   // << without a name
	tUndef
	tNull
	tTrue
	tFalse
	tDecimal
	tHex
	tOctal
	tDouble
	_ // exponent
	tHeredoc
	tSingleQuoted
	tDoubleQuoted
	tAsterisk
	tIf
	tFor
	tWith
	tElse
	tType
	tBind
	tWhile
	tValid
	tFinal
	tPrefix
	tUnique
	tObject
	tForeach
	tInclude
	tTemplate
	tFunction
	tVariable
	tStructure
	tExtensible
	tDeclaration
	tChoice
	tIdentifier
	tNamespaced // a name with slashes, behind the word template
	tError      // a character that begins no token
	numKinds

	// tFailed is a token that the lexer refuses, such as a string with a wrong escape; lexer.err says why. No rule expects it.
	tFailed
)

// kindImage is how panc's messages write a kind.
var kindImage = [numKinds]string{
	tEOF: "<EOF>", tLBrace: `"{"`, tOptional: `"?"`, tColon: `":"`, tSemicolon: `";"`, tComma: `","`, tLParen: `"("`, tRParen: `")"`,
	tLBracket: `"["`, tRBracket: `"]"`, tRBrace: `"}"`, tAssign: `"="`, tPlus: `"+"`, tMinus: `"-"`, tMod: `"%"`, tDiv: `"/"`,
	tNot: `"!"`, tGT: `">"`, tLT: `"<"`, tRange: `".."`, tOr: `"||"`, tAnd: `"&&"`, tBitOr: `"|"`, tBitXor: `"^"`, tBitAnd: `"&"`,
	tBitNot: `"~"`, tEQ: `"=="`, tNE: `"!="`, tGE: `">="`, tLE: `"<="`, tAssignDefault: `"?="`, tHeredocMark: `"<<"`,
	tUndef: `"undef"`, tNull: `"null"`, tTrue: `"true"`, tFalse: `"false"`, tDecimal: "<DECIMAL_LITERAL>", tHex: "<HEX_LITERAL>",
	tOctal: "<OCTAL_LITERAL>", tDouble: "<DOUBLE_LITERAL>", tHeredoc: "<HEREDOC_STRING>", tSingleQuoted: "<SINGLE_QUOTED_STRING>",
	tDoubleQuoted: "<DOUBLE_QUOTED_STRING>", tAsterisk: `"*"`, tIf: `"if"`, tFor: `"for"`, tWith: `"with"`, tElse: `"else"`,
	tType: `"type"`, tBind: `"bind"`, tWhile: `"while"`, tValid: `"valid"`, tFinal: `"final"`, tPrefix: `"prefix"`,
	tUnique: `"unique"`, tObject: `"object"`, tForeach: `"foreach"`, tInclude: `"include"`, tTemplate: `"template"`,
	tFunction: `"function"`, tVariable: `"variable"`, tStructure: `"structure"`, tExtensible: `"extensible"`,
	tDeclaration: `"declaration"`, tChoice: `"choice"`, tIdentifier: "<IDENTIFIER>", tNamespaced: "<NS_IDENTIFIER>", tError: "<ERROR>",
}

// keyword is the kind of a word: tIdentifier unless it is reserved.
func keyword(s string) kind {
	switch s {
	case "undef":
		return tUndef
	case "null":
		return tNull
	case "true":
		return tTrue
	case "false":
		return tFalse
	case "if":
		return tIf
	case "for":
		return tFor
	case "with":
		return tWith
	case "else":
		return tElse
	case "type":
		return tType
	case "bind":
		return tBind
	case "while":
		return tWhile
	case "valid":
		return tValid
	case "final":
		return tFinal
	case "prefix":
		return tPrefix
	case "unique":
		return tUnique
	case "object":
		return tObject
	case "foreach":
		return tForeach
	case "include":
		return tInclude
	case "template":
		return tTemplate
	case "function":
		return tFunction
	case "variable":
		return tVariable
	case "structure":
		return tStructure
	case "extensible":
		return tExtensible
	case "declaration":
		return tDeclaration
	case "choice":
		return tChoice
	}
	return tIdentifier
}

// token is one word of a template. text is a string's value, or the word itself; a here-document's value is known only behind
// its line, so its text is empty and its number is index.
type token struct {
	kind       kind
	index      int32 // of a here-document, counted from 0
	begin, end int32 // bytes of the source
	span       Span
	text       string
}
