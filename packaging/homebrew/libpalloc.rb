# SPDX-License-Identifier: MIT OR Apache-2.0
class Libpalloc < Formula
  desc "Allocators for files, movable blocks and virtual memory"
  homepage "https://example.org/libpalloc"
  url "https://example.org/libpalloc/palloc-0.1.0.tar.gz"
  # `shasum -a 256` of the archive of `make dist`
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on "rust" => :build
  depends_on :linux

  def install
    system "make", "install", "PREFIX=#{prefix}", "MANDIR=#{man}", "DOCDIR=#{doc}"
  end

  test do
    (testpath/"test.c").write <<~C
      #include <palloc.h>
      int main(void) { return palloc(palloc_init("test.pba", PALLOC_DYNAMIC), 4) == 0; }
    C
    system ENV.cc, "test.c", "-I#{include}", "-L#{lib}", "-lpalloc", "-o", "test"
    system "./test"
  end
end
