template lib/plain;

'/plain' = 1;
