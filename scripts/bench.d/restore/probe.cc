// Asks a worker (worker.cc) from outside its container, and looks at its memory.
//
//   probe ask ROOT SOCKET ACTION…    one line of JSON for each action; ROOT is the container's root file system
//       beat                         connects as soon as the socket is there, waits for the answer
//       go                           waits for a line on stdin
//       answer:RUN, pass             as the worker's questions
//       requests:COUNT:PERIOD:RUN    COUNT answers, one every PERIOD µs whether or not the last has come; 0: one after
//                                    the other. A latency counts from the moment that a request was due.
//       resident:FILE                waits until all pages that FILE lists are in memory
//   probe pages PID FILE             lists the pages of a process that a checkpoint of it must bring back
//   probe fill MIB THREADS           nanoseconds that it takes to fill fresh memory by memcpy
//
// Times are nanoseconds of CLOCK_MONOTONIC. A worker that is not there within two minutes is an error.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

static constexpr uint64_t kPage = 4096;
static constexpr int64_t kDeadline = 120'000'000'000;

static int64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

[[noreturn]] static void die(const char *what) {
  perror(what);
  exit(1);
}

[[noreturn]] static void fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static void sleep_until(int64_t when) {
  const timespec t = {when / 1'000'000'000, when % 1'000'000'000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr) != 0) {
  }
}

// The worker's socket ------------------------------------------------------------------------------------------------

/**
 * Polls: a restored socket listens before its process runs, and the kernel keeps the connection until then. ROOT is
 * opened anew each time, as it may be mounted only meanwhile; through a descriptor no path is too long for an address.
 */
static int connect_to(const char *root, const char *path) {
  const int64_t deadline = now() + kDeadline;
  for (;;) {
    const int directory = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {
      sockaddr_un address = {};
      address.sun_family = AF_UNIX;
      snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", directory, path);
      const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (fd < 0) die("socket");
      const int rc = connect(fd, reinterpret_cast<sockaddr *>(&address), sizeof address);
      close(directory);
      if (rc == 0) return fd;
      close(fd);
    }
    if (now() > deadline) die(path);
    usleep(500);
  }
}

static std::string ask(int fd, const std::string &question) {
  const std::string line = question + "\n";
  if (send(fd, line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size())) die("send");
  std::string answer;
  char part[128];
  do {
    const ssize_t n = read(fd, part, sizeof part);
    if (n < 0) die("read");
    if (n == 0) fail("The worker closed the connection");
    answer.append(part, static_cast<size_t>(n));
  } while (answer.back() != '\n');
  answer.pop_back();
  return answer;
}

/** The worker's pid as this process sees it: who listens is who restored the socket, the worker itself. */
static pid_t pid_of(int fd) {
  ucred peer;
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) die("SO_PEERCRED");
  return peer.pid;
}

// Memory, by /proc/PID/pagemap; source: Documentation/admin-guide/mm/pagemap.rst --------------------------------------

static constexpr uint64_t kPresent = 1ULL << 63;
/** A page of a file or shared memory. */
static constexpr uint64_t kFile = 1ULL << 61;
static constexpr uint64_t kFrame = (1ULL << 55) - 1;

struct Range {
  uint64_t first, end;  // page numbers
};

static int open_pagemap(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/pagemap";
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) die(path.c_str());
  return fd;
}

static size_t read_pagemap(int fd, uint64_t page, uint64_t *entries, size_t count) {
  const ssize_t n = pread(fd, entries, count * sizeof *entries, static_cast<off_t>(page * sizeof *entries));
  if (n < 0) die("pagemap");
  if (n == 0) fail("The worker has ended");
  return static_cast<size_t>(n) / sizeof *entries;
}

/** The kernel's page of zeros, which every process shares and no checkpoint holds. */
static uint64_t zero_frame() {
  void *const area = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (area == MAP_FAILED) die("mmap");
  if (*static_cast<volatile char *>(area) != 0) fail("Fresh memory is not zero");
  uint64_t entry;
  read_pagemap(open_pagemap(getpid()), reinterpret_cast<uint64_t>(area) / kPage, &entry, 1);
  return entry & kFrame;
}

static int list_pages(pid_t pid, const char *file) {
  const std::string path = "/proc/" + std::to_string(pid) + "/maps";
  FILE *const maps = fopen(path.c_str(), "re");
  if (!maps) die(path.c_str());
  FILE *const out = fopen(file, "we");
  if (!out) die(file);
  const int pagemap = open_pagemap(pid);
  const uint64_t zero = zero_frame();
  std::vector<uint64_t> entries(1 << 15);
  uint64_t total = 0;
  char *line = nullptr;
  size_t size = 0;
  while (getline(&line, &size, maps) > 0) {
    unsigned long long begin, end;
    // Pages of the kernel's own; their addresses need not be readable.
    if (strstr(line, "[v") || sscanf(line, "%llx-%llx", &begin, &end) != 2) continue;
    Range range = {0, 0};
    const auto flush = [&] {
      if (range.end > range.first)
        fprintf(out, "%llu %llu\n", static_cast<unsigned long long>(range.first),
                static_cast<unsigned long long>(range.end));
      total += range.end - range.first;
    };
    for (uint64_t page = begin / kPage; page < end / kPage;) {
      const size_t want = end / kPage - page < entries.size() ? end / kPage - page : entries.size();
      const size_t count = read_pagemap(pagemap, page, entries.data(), want);
      for (size_t i = 0; i < count; i++, page++) {
        if (!(entries[i] & kPresent) || (entries[i] & kFile) || (entries[i] & kFrame) == zero) continue;
        if (range.end != page) {
          flush();
          range = {page, page};
        }
        range.end = page + 1;
      }
    }
    flush();
  }
  if (fclose(out) != 0) die(file);
  printf("{\"bytes\":%llu}\n", static_cast<unsigned long long>(total * kPage));
  return 0;
}

/**
 * Goes through the list once: a page that has been seen in memory stays there, as there is no swap. So it costs the
 * worker's machine one reading of the page tables and a look at one page every millisecond.
 */
static void wait_resident(pid_t pid, const char *file) {
  FILE *const list = fopen(file, "re");
  if (!list) die(file);
  const int pagemap = open_pagemap(pid);
  const int64_t deadline = now() + kDeadline;
  std::vector<uint64_t> entries(4096);
  unsigned long long page, end;
  while (fscanf(list, "%llu %llu\n", &page, &end) == 2) {
    size_t want = 1;
    while (page < end) {
      const size_t count =
          read_pagemap(pagemap, page, entries.data(), end - page < want ? static_cast<size_t>(end - page) : want);
      size_t i = 0;
      while (i < count && (entries[i] & kPresent)) i++;
      page += i;
      want = i == count ? entries.size() : 1;
      if (i == count) continue;
      if (now() > deadline) fail("Not all of the worker's memory came within two minutes");
      usleep(1000);
    }
  }
  fclose(list);
  close(pagemap);
}

// Actions ------------------------------------------------------------------------------------------------------------

static void print(const char *action, int64_t began, const std::string &value, const std::vector<int64_t> &latencies = {}) {
  printf("{\"action\":\"%s\",\"began\":%lld,\"ended\":%lld,\"value\":\"%s\",\"latencies\":[", action,
         static_cast<long long>(began), static_cast<long long>(now()), value.c_str());
  for (size_t i = 0; i < latencies.size(); i++) printf(i ? ",%lld" : "%lld", static_cast<long long>(latencies[i]));
  printf("]}\n");
  fflush(stdout);
}

/** Sends from one thread and reads in another: a request is sent when it is due, whatever became of those before. */
static std::vector<int64_t> paced(int fd, long count, int64_t period, const std::string &question) {
  const std::string line = question + "\n";
  const int64_t began = now();
  std::vector<int64_t> latencies;
  std::string answer;
  char part[256];
  std::thread sender([&] {
    for (long i = 0; i < count; i++) {
      sleep_until(began + i * period);
      if (send(fd, line.data(), line.size(), MSG_NOSIGNAL) < 0) die("send");
    }
  });
  while (latencies.size() < static_cast<size_t>(count)) {
    const ssize_t n = read(fd, part, sizeof part);
    if (n < 0) die("read");
    if (n == 0) fail("The worker closed the connection");
    for (ssize_t i = 0; i < n; i++)
      if (part[i] == '\n') latencies.push_back(now() - began - static_cast<int64_t>(latencies.size()) * period);
  }
  sender.join();
  return latencies;
}

static std::vector<int64_t> one_by_one(int fd, long count, const std::string &question) {
  std::vector<int64_t> latencies;
  for (long i = 0; i < count; i++) {
    const int64_t began = now();
    ask(fd, question);
    latencies.push_back(now() - began);
  }
  return latencies;
}

static int run_actions(const char *root, const char *socket, int count, char **actions) {
  int fd = -1;
  for (int i = 0; i < count; i++) {
    const char *const action = actions[i];
    const int64_t began = now();
    long requests, period, run;
    if (strcmp(action, "go") == 0) {
      char line[16];
      if (read(0, line, sizeof line) <= 0) fail("Nobody said go");
      print(action, began, "");
      continue;
    }
    if (fd < 0) fd = connect_to(root, socket);
    if (strcmp(action, "beat") == 0 || strcmp(action, "pass") == 0) {
      print(action, began, ask(fd, action));
    } else if (sscanf(action, "answer:%ld", &run) == 1) {
      print(action, began, ask(fd, "answer " + std::to_string(run)));
    } else if (sscanf(action, "requests:%ld:%ld:%ld", &requests, &period, &run) == 3) {
      const std::string question = "answer " + std::to_string(run);
      print("requests", began, "",
            period > 0 ? paced(fd, requests, period * 1000, question) : one_by_one(fd, requests, question));
    } else if (strncmp(action, "resident:", 9) == 0) {
      wait_resident(pid_of(fd), action + 9);
      print("resident", began, std::to_string(pid_of(fd)));
    } else {
      fail("usage: see probe.cc");
    }
  }
  return 0;
}

// The machine's limit ------------------------------------------------------------------------------------------------

static int fill(uint64_t bytes, unsigned threads) {
  // More than the caches hold, so that reading costs what it costs a restore.
  const uint64_t source_bytes = 256 << 20;
  const auto map = [](uint64_t size) {
    void *const area = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED) die("mmap");
    return static_cast<char *>(area);
  };
  char *const source = map(source_bytes);
  memset(source, 1, source_bytes);
  char *const target = map(bytes);
  const uint64_t block = 1 << 20;
  const int64_t began = now();
  std::vector<std::thread> workers;
  for (unsigned k = 0; k < threads; k++)
    workers.emplace_back([=] {
      for (uint64_t at = k * block; at < bytes; at += threads * block) memcpy(target + at, source + at % source_bytes, block);
    });
  for (std::thread &worker : workers) worker.join();
  printf("{\"ns\":%lld}\n", static_cast<long long>(now() - began));
  return 0;
}

int main(int argc, char **argv) {
  if (argc >= 5 && strcmp(argv[1], "ask") == 0) return run_actions(argv[2], argv[3], argc - 4, argv + 4);
  if (argc == 4 && strcmp(argv[1], "pages") == 0) return list_pages(atoi(argv[2]), argv[3]);
  if (argc == 4 && strcmp(argv[1], "fill") == 0)
    return fill(static_cast<uint64_t>(atoll(argv[2])) << 20, static_cast<unsigned>(atoi(argv[3])));
  fail("usage: see probe.cc");
}
