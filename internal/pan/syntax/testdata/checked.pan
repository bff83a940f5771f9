# What the second pass finds: the grammar takes all of this.
object template checked;

'/a b/c' = 1; ### "invalid path term or nlist key: 'a b'"
prefix 'rel'; ### "given relative prefix \(rel\) requires prior absolute prefix"
'b' = 2; ### "can only contain assignments to absolute paths"
prefix '/c';
'd' = 3;
'0' = 4;
prefix 'e';
'f/g' = 5;
prefix '';
'other:/h' = 6; ### "assignment cannot be made to an external path \(other:/h\)"
variable SELF = 7; ### "automatic variable \(SELF\) may not be set directly"
variable V = {
  x = SELF['y'] = 1;
  SELF = x; ### "SELF variable may not be set directly"
  foreach (OBJECT; v; x) v; ### "automatic variable \(OBJECT\) may not be set directly"
  ARGV(x); ### "ARGV cannot be used as a function"
  ARGV[0];
};
type t = {
  'a' : long
  'b/c' ? long ### "field name \(b/c\) must be a valid term"
  'd' : {
    '/e f' : string ### "field name \(/e f\) must be a valid path"
  }
};
bind '/i/${V}/{j}' = t;
bind 'k' = t; ### "only absolute paths can be used with bind statements \(k\)"
function t = 8;
type t = string; ### "duplicate type definition for t; previous definition at 22.1-28.2"
