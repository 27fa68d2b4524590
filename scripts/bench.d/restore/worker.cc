// The program that the restore benches checkpoint: a server with much private memory that waits for questions.
//
//   worker MIB SOCKET        fills MIB MiB, then answers on the unix socket
//
// Every page is its own: half of it random, so that it compresses to about a half, and none is zero. A question is a
// line, and so is its answer:
//
//   beat             a number that only this process knows, and how many questions it has answered
//   answer RUN       checksum of a fixed tenth of all pages, spread evenly in runs of RUN pages
//   pass             checksum of all pages in order
//
// One thread and one question at a time: what a question costs is what its memory costs.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

static constexpr size_t kPage = 4096;
static constexpr size_t kWords = kPage / sizeof(uint64_t);
/** One page in this many is part of an answer. */
static constexpr uint64_t kShare = 10;

static uint64_t *memory;
static uint64_t pages;
static uint64_t nonce;
static uint64_t answered;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t mix(uint64_t x) {  // the finalizer of MurmurHash3: every bit of the input reaches every bit
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

static void fill() {
  for (uint64_t page = 0; page < pages; page++) {
    uint64_t *words = memory + page * kWords;
    uint64_t state = mix(page + 1);
    for (size_t i = 0; i < kWords / 2; i++) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      words[i] = state;
    }
    const uint64_t same = mix(page + 1) | 1;
    for (size_t i = kWords / 2; i < kWords; i++) words[i] = same;
  }
}

static uint64_t sum(uint64_t first, uint64_t count) {
  const uint64_t *words = memory + first * kWords;
  uint64_t sums[4] = {};
  for (uint64_t i = 0; i < count * kWords; i += 4)
    for (int k = 0; k < 4; k++) sums[k] += words[i + k];
  return mix(sums[0] + 3 * sums[1] + 5 * sums[2] + 7 * sums[3] + first);
}

/** Memory is cut into groups of ten runs; one run of each group, chosen by the group's number, is read. */
static uint64_t answer(uint64_t run) {
  uint64_t total = 0;
  for (uint64_t group = 0; (group + 1) * kShare * run <= pages; group++)
    total += sum((group * kShare + mix(group + run) % kShare) * run, run);
  return total;
}

struct Connection {
  int fd;
  char line[64];
  size_t length;
};

static void reply(int fd, const char *line) {
  char out[160];
  unsigned long long value;
  int length;
  if (strcmp(line, "beat") == 0) {
    length = snprintf(out, sizeof out, "%016llx %llu\n", static_cast<unsigned long long>(nonce),
                      static_cast<unsigned long long>(answered));
  } else if (sscanf(line, "answer %llu", &value) == 1 && value > 0) {
    length = snprintf(out, sizeof out, "%016llx\n", static_cast<unsigned long long>(answer(value)));
  } else if (strcmp(line, "pass") == 0) {
    length = snprintf(out, sizeof out, "%016llx\n", static_cast<unsigned long long>(sum(0, pages)));
  } else {
    length = snprintf(out, sizeof out, "what is '%s'?\n", line);
  }
  answered++;
  // Who asked may be gone.
  if (send(fd, out, static_cast<size_t>(length), MSG_NOSIGNAL) < 0) perror("send");
}

/** False when the other end has closed, or asks what is longer than any question. */
static bool serve(Connection &connection) {
  const size_t space = sizeof connection.line - connection.length;
  const ssize_t n = read(connection.fd, connection.line + connection.length, space);
  if (n <= 0) return false;
  connection.length += static_cast<size_t>(n);
  // Questions that came while another was answered lie one behind the other.
  while (char *const end = static_cast<char *>(memchr(connection.line, '\n', connection.length))) {
    *end = 0;
    reply(connection.fd, connection.line);
    connection.length -= static_cast<size_t>(end + 1 - connection.line);
    memmove(connection.line, end + 1, connection.length);
  }
  return connection.length < sizeof connection.line;
}

int main(int argc, char **argv) {
  if (argc != 3 || atoll(argv[1]) <= 0) {
    fprintf(stderr, "usage: worker MIB SOCKET\n");
    return 2;
  }
  pages = static_cast<uint64_t>(atoll(argv[1])) * ((1 << 20) / kPage);
  void *const area = mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (area == MAP_FAILED) die("mmap");
  memory = static_cast<uint64_t *>(area);
  fill();
  if (getrandom(&nonce, sizeof nonce, 0) != sizeof nonce) die("getrandom");

  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[2]);
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, reinterpret_cast<sockaddr *>(&address), sizeof address) < 0 ||
      listen(listener, 64) < 0)
    die(argv[2]);

  std::vector<Connection> connections;
  for (;;) {
    std::vector<pollfd> waits = {{listener, POLLIN, 0}};
    for (const Connection &connection : connections) waits.push_back({connection.fd, POLLIN, 0});
    if (poll(waits.data(), waits.size(), -1) < 0) continue;  // a signal
    // From the back: one that has closed is taken out.
    for (size_t i = connections.size(); i > 0; i--) {
      if (!waits[i].revents || serve(connections[i - 1])) continue;
      close(connections[i - 1].fd);
      connections.erase(connections.begin() + static_cast<long>(i - 1));
    }
    if (waits[0].revents) {
      const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd >= 0) connections.push_back({fd, {}, 0});
    }
  }
}
