template lib/old; ### "template files are to end in .pan"

'/old' = SITE;
