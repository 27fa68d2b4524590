// Forks while memory is still on its way: the child has the memory of the moment of the fork, whatever its parent or
// its own children do to theirs.

#include <sys/mman.h>

#include "family.h"
#include "mixture.h"
#include "scenarios.h"

namespace thaw {
namespace {

void ReadEverything(const Actor&, Part& part) { part.CheckAll(); }
void ReadInRandomOrder(const Actor&, Part& part) { part.CheckInRandomOrder(); }
void EndAtOnce(const Actor&, Part&) {}

// Its memory is all pending still when it forks; a grandchild reads what both of them left alone.
void ChangeAndFork(const Actor& actor, Part& part) {
  for (int i = 0; i < 20; i++) part.Drop();
  const pid_t child = Fork(actor, part, ReadInRandomOrder);
  part.WriteEverywhere();
  for (int i = 0; i < 20; i++) part.Move();
  const pid_t second = Fork(actor, part, ReadEverything);
  for (int i = 0; i < 20; i++) part.Unmap();
  part.CheckAll();
  WaitFor(child);
  WaitFor(second);
}

}  // namespace

void ForkScenario(const Actor& actor) {
  Part part(actor.memory, 0, 1, actor.options.seed);
  const pid_t reader = Fork(actor, part, ReadInRandomOrder);
  for (int i = 0; i < 30; i++) part.Drop();
  const pid_t changer = Fork(actor, part, ChangeAndFork);
  for (int i = 0; i < 5; i++) WaitFor(Fork(actor, part, EndAtOnce));
  SpawnAndWait();
  ForkAndExec();
  for (int i = 0; i < 30; i++) part.WriteSome();
  const pid_t again = Fork(actor, part, ReadEverything);
  for (int i = 0; i < 30; i++) part.MoveAndKeep();
  part.CheckInRandomOrder();
  for (const pid_t child : {reader, changer, again}) WaitFor(child);
  part.CheckAll();
}

}  // namespace thaw
