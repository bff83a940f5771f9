package syntax

// Functions are the names of the functions of the language.
var Functions = []string{
	"append", "base64_decode", "base64_encode", "clone", "create", "debug", "delete", "deprecated", "dict", "digest", "error", "escape",
	"exists", "file_contents", "file_exists", "first", "format", "if_exists", "index", "ip4_to_long", "is_boolean", "is_defined", "is_dict",
	"is_double", "is_list", "is_long", "is_nlist", "is_null", "is_number", "is_property", "is_resource", "is_string", "is_valid", "join",
	"json_decode", "json_encode", "key", "length", "list", "long_to_ip4", "match", "matches", "max", "merge", "min", "next", "nlist",
	"path_exists", "prepend", "replace", "return", "splice", "split", "substitute", "substr", "to_boolean", "to_double", "to_long",
	"to_lowercase", "to_string", "to_uppercase", "traceback", "unescape", "value",
}

// Types are the names of the types of the language.
var Types = []string{"boolean", "dict", "double", "element", "list", "long", "nlist", "number", "property", "resource", "string"}

// AutomaticVariables are those that the compiler sets.
var AutomaticVariables = []string{"ARGC", "ARGV", "FUNCTION", "OBJECT", "SELF", "TEMPLATE"}
