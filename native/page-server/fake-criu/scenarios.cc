#include "scenarios.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "../../launcher/clock.h"
#include "family.h"
#include "mixture.h"
#include "output.h"

namespace thaw {
namespace {

void ReadAll(const Actor& actor) { Part(actor.memory, 0, 1, actor.options.seed).CheckAll(); }

void ReadRandom(const Actor& actor) {
  RunThreads(actor, actor.options.threads, [](const Actor&, unsigned, Part& part) { part.CheckInRandomOrder(); });
}

void WriteFirst(const Actor& actor) {
  RunThreads(actor, actor.options.threads, [](const Actor&, unsigned, Part& part) {
    part.WriteEverywhere();
    part.CheckInRandomOrder();
    // A copy that comes late must not undo a write.
    SleepMs(5);
    part.CheckAll();
  });
}

std::atomic<unsigned> g_droppers;

void DropOrRead(const Actor& actor, unsigned index, Part& part) {
  static constexpr Weighted kDrops[] = {
      {10, &Part::Drop}, {2, &Part::CheckSome}, {2, &Part::WriteSome}, {0, nullptr},
  };
  // A page that is dropped while a copy of it is on its way stays empty for ever; that it came back would go unseen if
  // it were dropped again.
  for (int i = 0; i < 200; i++) part.DropAtFrontier();
  if (index % 2 == 0) {
    part.DropHalf();
    SleepMs(5);
    part.CheckAll();
    DoMany(actor, part, kDrops);
    g_droppers--;
  } else {
    while (g_droppers > 0) part.CheckSome();
  }
  part.CheckAll();
  SleepMs(5);
  part.CheckAll();
}

void DropScenario(const Actor& actor) {
  const unsigned threads = actor.options.threads < 2 ? 2 : actor.options.threads;
  g_droppers = (threads + 1) / 2;
  RunThreads(actor, threads, DropOrRead);
}

template <const Weighted* table>
void Mixture(const Actor& actor) {
  RunThreads(actor, actor.options.threads, [](const Actor& of, unsigned, Part& part) {
    DoMany(of, part, table);
    part.CheckAll();
    part.CheckAll();
  });
}

void UnmapScenario(const Actor& actor) {
  RunThreads(actor, actor.options.threads, [](const Actor& of, unsigned, Part& part) {
    part.RenewHalf();
    DoMany(of, part, kUnmaps);
    part.CheckAll();
    part.CheckAll();
  });
}

// The main test: everything at once, and forks that go on with it in their own copies.
void Everything(const Actor& actor) {
  RunThreads(actor, actor.options.threads, [](const Actor& of, unsigned index, Part& part) {
    Family family(of, part);
    const Deadline deadline(static_cast<int64_t>(of.options.seconds) * 1000);
    for (uint64_t i = 0; of.options.seconds ? !deadline.over() : i < of.options.operations; i++) {
      DoOne(part, kEverything);
      // A fork stops all threads of a process with much memory for milliseconds.
      if (i % 256 == index * 16) family.HaveChild();
    }
    part.CheckAll();
    family.Wait();
  });
}

// Until the process is killed from outside.
void RunUntilKilled(const Actor& actor) {
  if (actor.index % 2 == 1) return Mixture<kEverything>(actor);
  RunThreads(actor, actor.options.threads, [](const Actor&, unsigned, Part& part) {
    for (;;) DoOne(part, kEverything);
  });
}

// Every process another one, with one thread: there are many of them.
void Many(const Actor& actor) {
  static constexpr Scenario kScenarios[] = {
      ReadAll,         ReadRandom,    WriteFirst,           DropScenario,
      Mixture<kMoves>, UnmapScenario, Mixture<kProtects>, ForkScenario,
  };
  Options options = actor.options;
  options.threads = 1;
  options.operations = std::min<uint64_t>(options.operations, 100);
  kScenarios[actor.index % std::size(kScenarios)]({actor.memory, options, actor.index});
}

// Every fourth of the pages around those that the file had at first, and some more.
void CheckQuarter(Part& part, const std::vector<uint64_t>& pages, uint64_t quarter) {
  for (Span& span : part.spans()) {
    for (const uint64_t page : pages)
      if (page % 4 == quarter) part.Check({&span, page, 1});
    for (int i = 0; i < 50; i++) part.Check({&span, part.random().Below(span.pages), 1});
  }
}

// Lengths and distances of gigabytes, in the first mapping.
void Big(const Actor& actor) {
  Part part(actor.memory, 0, 1, actor.options.seed);
  part.spans().resize(2);
  const Range home = part.Whole(0), away = part.Whole(1);
  std::vector<uint64_t> pages;
  constexpr uint64_t kAround = 8;
  for (uint64_t page = 0, until = 0; page < home.pages; page++) {
    for (uint64_t ahead = 0; ahead <= kAround; ahead++)
      if (page + ahead < home.pages && home.model()[page + ahead].file_page) until = page + ahead + kAround;
    if (page <= until) pages.push_back(page);
  }
  Family family(actor, part);
  CheckQuarter(part, pages, 0);
  const uint64_t sixth = home.pages / 6;
  // More than 2 GiB of 6, from 1 GiB on.
  part.DropRange({home.span, sixth, 2 * sixth + sixth / 2});
  CheckQuarter(part, pages, 1);
  family.HaveChild();
  part.MoveRange(home, away, 0);
  CheckQuarter(part, pages, 2);
  part.MoveRange({away.span, away.pages - sixth, sixth}, {home.span, home.pages - sixth, sixth}, 0);
  part.UnmapRange({away.span, 0, 3 * sixth + sixth / 2});
  family.HaveChild();
  CheckQuarter(part, pages, 3);
  part.CheckAll();
  family.Wait();
}

struct Named {
  const char* name;
  Scenario scenario;
};
constexpr Named kScenarios[] = {
    {"read-all", ReadAll},
    {"read-random", ReadRandom},
    {"write-first", WriteFirst},
    {"dontneed", DropScenario},
    {"mremap", Mixture<kMoves>},
    {"munmap", UnmapScenario},
    {"mprotect", Mixture<kProtects>},
    {"fork", ForkScenario},
    {"many", Many},
    {"big", Big},
    {"exit", RunUntilKilled},
    {"all", Everything},
};

struct Thread {
  pthread_t id;
  const Actor* actor;
  unsigned index;
  Part part;
  void (*work)(const Actor&, unsigned, Part&);
};

}  // namespace

Scenario FindScenario(const std::string& name) {
  for (const Named& named : kScenarios)
    if (name == named.name) return named.scenario;
  return nullptr;
}

void Recheck(const Actor& actor) { ReadAll(actor); }

void RunThreads(const Actor& actor, unsigned count, void (*work)(const Actor&, unsigned, Part&)) {
  std::vector<Thread> threads;
  for (unsigned i = 0; i < count; i++)
    threads.push_back({{}, &actor, i, Part(actor.memory, i, count, actor.options.seed), work});
  for (Thread& thread : threads) {
    const auto run = [](void* argument) -> void* {
      Thread* const self = static_cast<Thread*>(argument);
      self->work(*self->actor, self->index, self->part);
      return nullptr;
    };
    if (pthread_create(&thread.id, nullptr, run, &thread) != 0) Die("cannot start a thread");
  }
  for (Thread& thread : threads) pthread_join(thread.id, nullptr);
}

}  // namespace thaw
