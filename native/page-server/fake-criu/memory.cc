#include "memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "output.h"
#include "protocol.h"

namespace thaw {

Memory::Memory(const Layout& layout, const Process& process)
    : process_(process), content_(layout.ContentOf(process)) {
  for (const Vma& vma : process.vmas) {
    // Zero pages of the kernel until used: the room for moves of a large mapping costs nothing.
    models_.emplace_back(static_cast<PageModel*>(calloc(2 * vma.pages, sizeof(PageModel))));
    PageModel* const model = models_.back().get();
    if (!model) Die("no memory for the model");
    for (uint64_t page = 0; page < vma.pages; page++) model[page].access = kMapped | PROT_READ | PROT_WRITE;
    for (const PageRun& run : process.runs) {
      if (run.address < vma.address || run.address >= vma.address + vma.pages * kPageBytes) continue;
      const uint64_t at = (run.address - vma.address) / kPageBytes;
      for (uint64_t page = 0; page < run.pages; page++) model[at + page].file_page = 1 + run.first + page;
    }
    spans_.push_back({vma.address, vma.pages, model});
    spans_.push_back({vma.address + kAway, vma.pages, model + vma.pages});
  }
}

void Memory::Map(int uffd) {
  for (const Vma& vma : process_.vmas) {
    void* const address = reinterpret_cast<void*>(vma.address);
    // Safe: nothing of this program lies there (it is not position-independent), and if it did, this fails.
    // MAP_NORESERVE: a mapping may be larger than the machine.
    if (mmap(address, vma.pages * kPageBytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) != address)
      Die("cannot map %#lx: %s", vma.address, strerror(errno));
  }
  for (const PageRun& run : process_.runs) {
    if (!run.eager) continue;
    for (uint64_t page = 0; page < run.pages; page++)
      content_.Fill(run.first + page, reinterpret_cast<uint64_t*>(run.address + page * kPageBytes));
  }
  for (const Vma& vma : process_.vmas) RegisterMissing(uffd, vma.address, vma.pages * kPageBytes);
}

std::vector<Span> Memory::Share(unsigned index, unsigned count) const {
  std::vector<Span> share;
  for (const Span& span : spans_) {
    const uint64_t first = span.pages * index / count, end = span.pages * (index + 1) / count;
    if (end > first) share.push_back({span.AddressOf(first), end - first, span.model + first});
  }
  return share;
}

}  // namespace thaw
