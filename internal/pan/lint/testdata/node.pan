object template node;

include 'lib/functions';
include 'lib/unused'; ### "lib/unused only defines names, and no template uses one of them"
include 'lib/old';
include 'lib/functions'; ### "lib/functions was included on line 3, and runs once only"
include 'lib/none'; ### "no template is called lib/none$"
include { if_exists('lib/' + SITE) };
include { 'lib/plain' };
include 'lib/plain';

variable SITE ?= 'one';
variable COUNT = COUNTER + 1; ### "no template sets a variable COUNTER"
variable OPTIONAL = if (exists(WISH)) WISH else 0;

'/panc/x' = 1; ### "/panc is reserved"
'/a' = {
  local = SITE;
  list(loca, local, SELF, OBJECT); ### "no template sets a variable loca$"
};
'/b' = nlist('c', doubled(2)); ### "nlist is now dict"
'/d' = {
  ok = first(value('/b'), k, v);
  append(added, 1);
  foreach (i; j; LOADPATH) undoubled(i); ### "no template defines a function undoubled; did you mean doubled\?$"
  if (is_nlist(added)) k + v + local; ### "is_nlist is now is_dict" ### "no template sets a variable local"
};
bind '/e' = {
  'f' : even
  'g' ? odd ### "no template defines a type odd"
  'h' : nlist with is_valid(even, SELF) && is_valid(uneven, SELF) ### "nlist is now dict" ### "no template defines a type uneven"
  'i' ? choice('a', 'b')
  include ports ### "no template defines a type ports"
};
