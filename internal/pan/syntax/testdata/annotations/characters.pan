template characters;
@{ del nel x y ￾ � 	tab }
type t = { "a" : string = "\t\r\n \x01\x0b￾' 😀" "b" : double = 1e10 "c" : long(5) = 0x10 "d" : long = {3} "e" : long(..7) = (3) };
