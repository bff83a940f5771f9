declaration template lib/types;

type even = long with doubled(SELF / 2) == SELF;
