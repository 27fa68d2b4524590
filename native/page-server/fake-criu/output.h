// What the program says, one write a line so that processes do not mix theirs, and how it ends.
#pragma once

namespace thaw {

constexpr int kRight = 0;
// Memory was not what it must be, or a process did not get on.
constexpr int kWrong = 1;
// The program could not do its own part.
constexpr int kBroken = 2;
// A process was killed by somebody else.
constexpr int kKilled = 3;

[[gnu::format(printf, 1, 2)]] void Say(const char* format, ...);

// Ends this process (not its parents) with kBroken.
[[noreturn]] [[gnu::format(printf, 1, 2)]] void Die(const char* format, ...);

// Ends this process with kWrong when `seconds` are over, whatever its threads wait for. Forks do not inherit it. `who`
// is kept.
void LimitTime(unsigned seconds, const char* who);

}  // namespace thaw
