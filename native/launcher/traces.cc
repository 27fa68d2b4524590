#include "traces.h"

#include <algorithm>

#include "files.h"
#include "mounts.h"

namespace thaw {

std::vector<std::string> CriuFolders(std::string_view log) {
  constexpr std::string_view kBegin = "/tmp/.criu.";
  constexpr size_t kRandom = 6;
  std::vector<std::string> folders;
  const auto lower = [](char c) { return c >= 'a' && c <= 'z'; };
  const auto letter = [=](char c) { return lower(c) || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  for (size_t at = log.find(kBegin); at != std::string_view::npos; at = log.find(kBegin, at + 1)) {
    size_t end = at + kBegin.size();
    while (end < log.size() && lower(log[end])) end++;
    if (end == at + kBegin.size() || end >= log.size() || log[end] != '.') continue;
    const size_t random = ++end;
    while (end < log.size() && letter(log[end])) end++;
    if (end - random != kRandom) continue;
    const std::string folder(log.substr(at, end - at));
    if (std::find(folders.begin(), folders.end(), folder) == folders.end()) folders.push_back(folder);
  }
  return folders;
}

Error RemoveCriuFolders(const std::string& work, const Deadline& deadline) {
  constexpr size_t kMostBytes = 64 << 20;
  std::string log;
  if (ReadFile(JoinPath({work, "criu/restore.log"}), kMostBytes, &log) != 0) return {};
  Error failed;
  for (const std::string& folder : CriuFolders(log)) {
    if (!IsDirectory(folder)) continue;
    if (Error error = UnmountAll(folder, deadline)) failed = error;
    else if (Error left = RemoveTree(folder)) failed = left;
  }
  return failed;
}

}  // namespace thaw
