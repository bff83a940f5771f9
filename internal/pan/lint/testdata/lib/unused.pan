unique template lib/unused;

variable NOBODY = 1;
function nobody = NOBODY;
