#include "hold.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

namespace thaw {
namespace {

constexpr int kDevice = 3;
constexpr int kReady = 4;

}  // namespace

Error Hold() {
  // It was started to die with the daemon; from now on it must not.
  if (prctl(PR_SET_PDEATHSIG, 0) != 0) return Cannot("outlive the daemon", "", errno);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::signal(signal, SIG_IGN);
  if (write(kReady, "1", 1) != 1) return Cannot("reach the daemon", "", errno);
  close(kReady);
  // Asks for nothing: requests are the daemon's. The error is told all the same, once the connection is gone.
  pollfd device{kDevice, 0, 0};
  while (poll(&device, 1, -1) < 0 || !(device.revents & (POLLERR | POLLHUP | POLLNVAL))) {
  }
  return {};
}

}  // namespace thaw
