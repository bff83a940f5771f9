// Package java does what the Java library does and Go's does not, for the Pan language, whose built-in functions are defined
// by Java's classes: regular expressions (java.util.regex.Pattern), String.format (java.util.Formatter), Double.toString and the
// parsing of numbers, MessageFormat for the texts of messages, StrSubstitutor, message digests, and strings counted in
// UTF-16 units. It follows JDK 17, for which panc is built, its peculiarities included; testdata holds answers recorded from it.
//
// A string of Pan is a Go string in UTF-8. A lone surrogate, which Java can make by cutting a character in two, is kept
// as its three bytes (WTF-8), so that every Java string has exactly one Go string; [Output] gives what Java would write to a file.
//
// Nothing here takes time without bound: a regular expression has a budget of steps, and what exceeds it is an error, the same
// one on every machine. All functions are pure, and all types but [Cache] are immutable; Cache is safe for concurrent use.
package java
