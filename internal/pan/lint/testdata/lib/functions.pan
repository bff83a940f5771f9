declaration template lib/functions;

include 'lib/types';

function doubled = {
  if (ARGC != 1) error(FUNCTION + ' has one argument');
  2 * ARGV[0];
};
