package console

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A file system of 2 MiB gets full in the middle of what a console says, and has room again later: nothing in the record is damaged, the gap is marked with its size
// and reason, and what comes after it is recorded.
func TestRecord_on_a_file_system_that_gets_full(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skip("cannot mount a small file system: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	h, stop := startHub(t, Options{Dir: dir})
	say := talk(t, h, "r1n1")
	say("begin\r\n")
	logOf(t, h, "r1n1", LogOptions{}) // brings it into its file
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err == nil {
		t.Fatal("the file system is not full")
	}
	line := strings.Repeat("full ", 200) + "\r\n"
	for range 300 {
		say(line)
	}
	if i, _ := h.Info("r1n1"); !strings.HasPrefix(i.Reason, "not recorded: ") || !strings.Contains(i.Reason, "no space left") {
		t.Errorf("%+v", i)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		say(strings.Repeat("kept ", 200) + "\r\n")
	}
	say("end\r\n")
	got := logOf(t, h, "r1n1", LogOptions{})
	if !strings.Contains(got, "begin\r\n") || strings.Count(got, "kept ") != 100*200 || !strings.HasSuffix(got, "end\r\n") || strings.Contains(got, "checksum") {
		t.Errorf("of %d bytes: %d times kept", len(got), strings.Count(got, "kept "))
	}
	if !regexp.MustCompile(`\d+ bytes are missing here: they could not be recorded: .*no space left on device\]`).MatchString(got) {
		t.Errorf("the gap is not marked: %q", strings.NewReplacer("kept ", "", "full ", "").Replace(got))
	}
	stop()
	if after := logOf(t, killed(t, dir, nil), "r1n1", LogOptions{}); !strings.HasPrefix(after, got) {
		t.Errorf("the next one reads %d bytes, other than the %d before", len(after), len(got))
	}
}
