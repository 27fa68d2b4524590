// fake-criu: a pretended CRIU with pretended restored processes, to try a page server with. For tests only.
//   fake-criu restore --socket=PATH --layout=FILE --scenario=NAME [--seed=N] [--threads=N] [--operations=N |
//     --seconds=N] [--timeout=SECONDS] [--map-delay-ms=N] [--wait] [--early] [--keep]
//   fake-criu pages --layout=FILE --pages=FOLDER            writes FOLDER/pages-PID.img for each process
//   fake-criu serve-slow --socket=PATH --layout=FILE --pages=FOLDER [--pause-us=N] [--bug=NAME]
//   fake-criu permitted     says why there is no userfaultfd with events here, or nothing
//   fake-criu nothing       what processes of a scenario run with exec

#include <signal.h>
#include <string.h>

#include <string_view>

#include "options.h"
#include "output.h"
#include "pages.h"
#include "protocol.h"
#include "restore.h"
#include "server.h"

namespace thaw {
namespace {

int Run(std::string_view mode, const Options& options) {
  if (mode == "restore") return Restore(options);
  if (mode == "serve-slow") return Serve(options);
  if (mode == "nothing") return kRight;
  if (mode == "pages") {
    WritePagesFiles(ReadLayout(options.layout.c_str()), options.pages.c_str());
    return kRight;
  }
  if (mode == "permitted") {
    const int error = ProbeUserfault();
    if (!error) return kRight;
    Say("userfaultfd with events: %s", strerror(error));
    return kBroken;
  }
  Die("unknown mode; use restore, pages, serve-slow or permitted");
}

}  // namespace
}  // namespace thaw

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc < 2) thaw::Die("no mode; use restore, pages, serve-slow or permitted");
  return thaw::Run(argv[1], thaw::ParseOptions(argc - 2, argv + 2));
}
