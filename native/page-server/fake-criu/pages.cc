#include "pages.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "output.h"

namespace thaw {

std::string PagesFileOf(const std::string& folder, uint32_t pid) {
  return folder + "/pages-" + std::to_string(pid) + ".img";
}

void WritePagesFiles(const Layout& layout, const char* folder) {
  for (const Process& process : layout.processes) {
    if (process.zombie) continue;
    const std::string path = PagesFileOf(folder, process.pid);
    const Content content = layout.ContentOf(process);
    FILE* const file = fopen(path.c_str(), "we");
    if (!file) Die("cannot write %s: %s", path.c_str(), strerror(errno));
    bool written = true;
    for (uint64_t page = 0; page < process.FilePages(); page++) {
      uint64_t words[kPageWords];
      content.Fill(page, words);
      written = written && fwrite(words, kPageBytes, 1, file) == 1;
    }
    if (fclose(file) != 0 || !written) Die("cannot write %s: %s", path.c_str(), strerror(errno));
  }
}

}  // namespace thaw
