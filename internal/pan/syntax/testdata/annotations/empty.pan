object template empty;
