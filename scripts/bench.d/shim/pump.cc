// Moves bytes as fast as a program can, for the measurement of a container's output.
//
//   pump write BYTES         writes BYTES to stdout in blocks of 64 KiB, what a pipe holds
//   pump read BYTES FILE     reads BYTES from FILE and prints the nanoseconds from the first byte to the last
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

static char block[1 << 20];

static long long now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int fail(const char *what) {
  perror(what);
  return 1;
}

static int write_bytes(long long left) {
  // Not zeros: no kernel and no shim may find them easier than real output.
  for (size_t i = 0; i < sizeof block; i++) block[i] = static_cast<char>(i * 31 + (i >> 8));
  while (left > 0) {
    const size_t size = left < (64 << 10) ? static_cast<size_t>(left) : 64 << 10;
    const ssize_t n = write(1, block, size);
    if (n < 0) return fail("write");
    left -= n;
  }
  return 0;
}

static int read_bytes(long long bytes, const char *path) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(path);
  long long began = 0;
  long long left = bytes;
  while (left > 0) {
    const ssize_t n = read(fd, block, sizeof block);
    if (n < 0) return fail(path);
    if (n == 0) {
      fprintf(stderr, "%s ended %lld bytes early\n", path, left);
      return 1;
    }
    if (began == 0) began = now();
    left -= n;
  }
  if (left < 0) {
    fprintf(stderr, "%s has %lld bytes too many\n", path, -left);
    return 1;
  }
  printf("%lld\n", now() - began);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "write") == 0) return write_bytes(atoll(argv[2]));
  if (argc == 4 && strcmp(argv[1], "read") == 0) return read_bytes(atoll(argv[2]), argv[3]);
  fprintf(stderr, "usage: pump write BYTES | pump read BYTES FILE\n");
  return 2;
}
