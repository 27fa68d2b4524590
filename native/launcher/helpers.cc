#include "helpers.h"

#include "processes.h"

namespace thaw {
namespace {

// `runc --root ROOT … ID`, as only a shim (or a `delete` that was cut off) calls it.
bool IsRunc(pid_t pid, const HelperTraits& traits) {
  const std::vector<std::string> arguments = ArgumentsOf(pid);
  if (arguments.size() < 4 || arguments.back() != traits.id) return false;
  for (size_t at = 1; at + 2 < arguments.size(); at++)
    if (arguments[at] == "--root" && arguments[at + 1] == traits.root) return true;
  return false;
}

// CRIU's own command line ("criu swrk 3") names nothing, but it works in the container's directory, and so do the tasks
// it is restoring until they are themselves. Its program may be our copy, which its own loader runs.
bool IsCriu(pid_t pid, const HelperTraits& traits) {
  if (traits.work.empty()) return false;
  const std::string cwd = LinkOf(pid, "cwd");
  if (cwd != traits.work && cwd.rfind(traits.work + '/', 0) != 0) return false;
  const std::string program = LinkOf(pid, "exe");
  return program.find("/criu/lib/") != std::string::npos || program.find("/criu", program.rfind('/')) != std::string::npos;
}

// What runc has started for itself, a hook or half a container, when it was killed with the shim: it is in the bundle, as
// runc was, and in the session that runc led. Somebody's shell there, and a daemon of a hook, have a living leader.
bool IsOrphan(pid_t pid, const HelperTraits& traits) {
  if (traits.bundle.empty() || LinkOf(pid, "cwd") != traits.bundle) return false;
  const pid_t leader = SessionOf(pid);
  return leader > 0 && HasEnded(leader);
}

}  // namespace

bool EndHelpers(const HelperTraits& traits, const Deadline& deadline) {
  // Again until there is none: a runc that ends while its tree is walked, because its shim has, leaves it to be found as
  // orphans.
  for (;;) {
    Victims helpers;
    for (const pid_t pid : AllProcesses()) {
      const auto is_helper = [&] { return IsRunc(pid, traits) || IsCriu(pid, traits) || IsOrphan(pid, traits); };
      if (is_helper()) helpers.Add(pid, is_helper);
    }
    if (helpers.empty()) return true;
    helpers.AddDescendants();
    helpers.Kill();
    if (!helpers.Wait(deadline)) return false;
  }
}

}  // namespace thaw
