# All errors of a template are reported, each on its line; what stands between them is read.
@{ a template in which much is wrong }
object template several;

'/a' = 1 2; ### "Encountered: 2"
'/b' = 2;
'/c' = { ### "illegal empty DML statement" at=8
  ;
};
'/d' = f(1, g(2, { x[3] = 4 ) }); ### "Encountered: \)"
variable X = 'open ### "Encountered: ."
variable Y = list(1, 2;   ### "Encountered: ;"
variable Z = 3;
type t = {
  'a' : long
  'b' long ### "Encountered: long"
  'c' : string(7..3)
};
type u = string(7..3); ### "minimum range value \(7\) must be less"
bind '/e' = long(99999999999999999999); ### "number 99999999999999999999 is too large"
function f = {
  if (ARGC != 1) error("one \q"); ### "illegal escape sequence \(.q\)"
  1;
};
'/f' = <<EOT 5; ### "Encountered: 5"
'/looks' = like a statement;
EOT
'/g' = 'fine';
@{ 1 = 2 } '/h' = 3; ### "invalid annotation name or key: '1'"
prefix "/i"
bind '/j' = string; ### "Encountered: bind"
else; ### "Encountered: else"
'/k' = { x = (1 + 2; }; ### "Encountered: ;"
valid '/l' = { true }; }; ### "Encountered: }"
final '/m' = undef;
'/n' = <<END; ### "EOF while processing heredoc" at=0
no end
