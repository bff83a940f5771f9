# comment
@{ top & <free> text }
@maintainer{
  name = Jane Doe
  email = 'jane@example.org'
}
declaration template full;

@{ first }
# between
@use[ a = "x ""y"" <z>"
 b = long \
 value ]
type t = extensible {
  @{desc of a & b}
  'a' : long(0..5) = 3 with SELF > 1
  'b' ? choice('x','y') = 'y'
  @deprecated(since = now)
  'c' : string[1..]{} = list('q')
  'd' : boolean = true
  'e' ? double = 1.5
  'f' ? string = <<EOT
multi
 line <&> é 😀
EOT
  'g' : { 'h' : long = -1 }
  '{x/y}' ? t
  include other
}(1..) with true;
type simple = string = "a'b\"c";

@doc{ }
function f = { a = 1; if (a == 2) 3; };
@{}
variable X = nlist('a', 1);
final variable Y ?= 3;
@{ bind has none }
bind '/a' = t = nlist();

include { 'x' };
@{ crlf
and é 😀 ]]> " ' 	tab }
variable Z = undef;
