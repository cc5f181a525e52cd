// Writes the archives beside it, with Go's archive/tar: `go run write.go`.
package main

import (
	"archive/tar"
	"bytes"
	"os"
	"strings"
	"time"
)

func main() {
	plain := []tar.Header{
		{Name: "dir/", Typeflag: tar.TypeDir, Mode: 01770},
		{Name: "dir/file", Typeflag: tar.TypeReg, Mode: 04751, Uid: 12345, Gid: 54321},
		{Name: "dir/same", Typeflag: tar.TypeLink, Linkname: "dir/file", Mode: 04751},
		{Name: "dir/link", Typeflag: tar.TypeSymlink, Linkname: "../outside", Mode: 0777},
		{Name: "empty", Typeflag: tar.TypeReg, Mode: 0644},
		{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0666},
		{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0600},
	}
	// What ustar cannot say: long names and links, owners above 2^21, names with any bytes.
	large := append(plain[:len(plain):len(plain)],
		tar.Header{Name: strings.Repeat("d", 120) + "/" + strings.Repeat("n", 140), Typeflag: tar.TypeReg, Mode: 0644},
		tar.Header{Name: "far", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("t", 300), Mode: 0777},
		tar.Header{Name: "big", Typeflag: tar.TypeReg, Mode: 0644, Uid: 4000000000, Gid: 3999999999},
		tar.Header{Name: "new\nline", Typeflag: tar.TypeReg, Mode: 0644},
		tar.Header{Name: "umlaut-\u00e4", Typeflag: tar.TypeReg, Mode: 0644},
	)
	attributed := append(large[:len(large):len(large)], tar.Header{
		Name: "attributed", Typeflag: tar.TypeReg, Mode: 0644,
		PAXRecords: map[string]string{
			"SCHILY.xattr.user.plain": "value",
			"SCHILY.xattr.user.lines": "a\nb\n12 path=evil\n",
			"SCHILY.xattr.user.bytes": "\x00\xff\x00",
		},
	})
	gnu := append(large[:len(large):len(large)], tar.Header{Name: "latin-\xe9", Typeflag: tar.TypeReg, Mode: 0644})
	write("ustar.tar", tar.FormatUSTAR, plain)
	write("gnu.tar", tar.FormatGNU, gnu)
	write("pax.tar", tar.FormatPAX, attributed)
}

func write(name string, format tar.Format, headers []tar.Header) {
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	for _, header := range headers {
		header.Format = format
		header.ModTime = time.Unix(1700000000, 0)
		content := ""
		if header.Typeflag == tar.TypeReg && header.Name != "empty" {
			content = "content of " + header.Name
		}
		header.Size = int64(len(content))
		check(archive.WriteHeader(&header))
		_, err := archive.Write([]byte(content))
		check(err)
	}
	check(archive.Close())
	check(os.WriteFile(name, out.Bytes(), 0644))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
