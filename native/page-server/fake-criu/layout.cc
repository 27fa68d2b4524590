#include "layout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>

#include "output.h"

namespace thaw {
namespace {

constexpr uint64_t kLowest = 1 << 20;

// Words of a line up to a comment.
std::vector<std::string> WordsOf(char* line) {
  std::vector<std::string> words;
  line[strcspn(line, "#\n")] = '\0';
  for (char* word = strtok(line, " \t"); word; word = strtok(nullptr, " \t")) words.emplace_back(word);
  return words;
}

bool IsMapped(const Process& process, const PageRun& run) {
  return std::any_of(process.vmas.begin(), process.vmas.end(), [&](const Vma& vma) {
    return run.address >= vma.address && run.address + run.pages * kPageBytes <= vma.address + vma.pages * kPageBytes;
  });
}

// Of a line that is about the last process; false if it makes no sense.
bool AddFact(const std::string& what, const std::vector<uint64_t>& numbers, Process* process) {
  if (numbers.size() < 2 || numbers[1] == 0) return false;
  if (what == "zero" && numbers.size() == 2) {
    process->zeros.push_back({numbers[0], numbers[1]});
    return true;
  }
  const uint64_t address = numbers[0], pages = numbers[1];
  if (address % kPageBytes != 0 || address < kLowest || pages >= kAway / kPageBytes ||
      address + pages * kPageBytes > kAway)
    return false;
  if (what == "vma" && numbers.size() == 2) {
    process->vmas.push_back({address, pages});
    return true;
  }
  if ((what != "lazy" && what != "eager") || numbers.size() != 3) return false;
  process->runs.push_back({address, pages, numbers[2], what == "eager"});
  return IsMapped(*process, process->runs.back());
}

bool AddLine(const std::vector<std::string>& words, Layout* layout) {
  std::vector<uint64_t> numbers;
  for (size_t i = 1; i < words.size(); i++) {
    char* end;
    numbers.push_back(strtoull(words[i].c_str(), &end, 0));
    if (*end != '\0') return false;
  }
  if (words[0] == "seed") {
    if (numbers.size() != 1) return false;
    layout->seed = numbers[0];
    return true;
  }
  if (words[0] == "process" || words[0] == "zombie") {
    // The content's key has room for 16 bits.
    if (numbers.size() != 1 || numbers[0] == 0 || numbers[0] > 0xffff) return false;
    Process process;
    process.pid = static_cast<uint32_t>(numbers[0]);
    process.zombie = words[0] == "zombie";
    layout->processes.push_back(std::move(process));
    return true;
  }
  return !layout->processes.empty() && !layout->processes.back().zombie &&
         AddFact(words[0], numbers, &layout->processes.back());
}

}  // namespace

uint64_t Process::FilePages() const {
  uint64_t pages = 0;
  for (const PageRun& run : runs) pages = std::max(pages, run.first + run.pages);
  return pages;
}

Layout ReadLayout(const char* path) {
  FILE* const file = fopen(path, "re");
  if (!file) Die("cannot open %s: %s", path, strerror(errno));
  Layout layout;
  char line[256];
  for (int number = 1; fgets(line, sizeof line, file); number++) {
    const std::vector<std::string> words = WordsOf(line);
    if (!words.empty() && !AddLine(words, &layout)) Die("%s:%d makes no sense", path, number);
  }
  fclose(file);
  return layout;
}

}  // namespace thaw
