import java.io.*;
import java.math.BigInteger;
import java.security.MessageDigest;
import java.util.*;
import java.util.regex.*;
import org.apache.commons.lang3.text.*;

// Record answers the questions of recorded.txt with the Java library (JDK 17, commons-lang3):
//   java -cp commons-lang3.jar Record.java < recorded.txt > new.txt
// A line is an operation and its arguments, with tabs between; then "=>" and the answer, or "=> !" and the exception with its
// message. In arguments and answers, everything but printable ASCII is a backslash, u and four digits, a UTF-16 unit; so is a backslash.
public class Record {
    static String read(String s) {
        StringBuilder b = new StringBuilder();
        for (int i = 0; i < s.length(); i++) {
            if (s.charAt(i) == '\\') { b.append((char) Integer.parseInt(s.substring(i + 2, i + 6), 16)); i += 5; }
            else b.append(s.charAt(i));
        }
        return b.toString();
    }

    static String write(String s) {
        StringBuilder b = new StringBuilder();
        for (char c : s.toCharArray())
            if (c < ' ' || c > '~' || c == '\\') b.append(String.format("\\u%04x", (int) c));
            else b.append(c);
        return b.toString();
    }

    static double bits(String s) { return Double.longBitsToDouble(Long.parseUnsignedLong(s, 16)); }

    static Object value(String s) {
        String v = s.substring(1);
        switch (s.charAt(0)) {
        case 'S': return read(v);
        case 'L': return Long.valueOf(v);
        case 'D': return bits(v);
        default: return Boolean.valueOf(v);
        }
    }

    static String answer(String[] f) throws Exception {
        StringBuilder out = new StringBuilder();
        switch (f[0]) {
        case "find": {
            Pattern p = Pattern.compile(read(f[1]), Integer.parseInt(f[2]));
            Matcher m = p.matcher(read(f[3]));
            if (!m.find()) return "none";
            for (int i = 0; i <= m.groupCount(); i++) out.append(i > 0 ? " " : "").append(m.start(i)).append(",").append(m.end(i));
            return out.toString();
        }
        case "replace": return write(Pattern.compile(read(f[1])).matcher(read(f[3])).replaceAll(read(f[2])));
        case "split":
            for (String s : Pattern.compile(read(f[1])).split(read(f[3]), Integer.parseInt(f[2]))) out.append("[").append(write(s)).append("]");
            return out.toString();
        case "format": {
            Object[] args = new Object[f.length - 2];
            for (int i = 0; i < args.length; i++) args[i] = value(f[i + 2]);
            return write(String.format(Locale.US, read(f[1]), args));
        }
        case "double": return Double.toString(bits(f[1]));
        case "number": return write(java.text.MessageFormat.format("{0,number}", bits(f[1])));
        case "parse": return Long.toHexString(Double.doubleToLongBits(Double.parseDouble(read(f[1]))));
        case "decode": return String.valueOf(Long.decode(read(f[1])));
        case "long": return String.valueOf(Long.parseLong(read(f[1]), Integer.parseInt(f[2])));
        case "round": return String.valueOf(Math.round(bits(f[1])));
        case "upper": return write(read(f[1]).toUpperCase(Locale.US));
        case "lower": return write(read(f[1]).toLowerCase(Locale.US));
        case "compare": return String.valueOf(Integer.signum(read(f[1]).compareTo(read(f[2]))));
        case "substitute": {
            Map<String, String> m = new HashMap<>();
            for (int i = 2; i < f.length; i += 2) m.put(read(f[i]), read(f[i + 1]));
            return write(new StrSubstitutor(new StrLookup<String>() {
                public String lookup(String k) {
                    if (!m.containsKey(k)) throw new NoSuchElementException("undefined variable");
                    return m.get(k);
                }
            }).replace(read(f[1])));
        }
        case "digest": { // as panc's digest()
            String s = read(f[2]);
            MessageDigest m = MessageDigest.getInstance(f[1]);
            m.update(s.getBytes("UTF-8"), 0, s.length());
            return new BigInteger(1, m.digest()).toString(16);
        }
        }
        throw new Error(f[0]);
    }

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        for (String line; (line = in.readLine()) != null;) {
            line = line.split("\t=> ")[0];
            String a;
            try { a = answer(line.split("\t", -1)); }
            catch (Exception e) { a = "!" + e.getClass().getSimpleName() + ": " + write(String.valueOf(e.getMessage())); }
            System.out.println(line + "\t=> " + a);
        }
    }
}
