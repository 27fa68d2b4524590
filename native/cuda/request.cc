#include "request.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "device-node.h"
#include "management.h"

namespace thaw {
namespace {

bool Number(const std::string& text, long most, long* number) {
  if (text.empty() || text[0] < '0' || text[0] > '9') return false;
  char* end = nullptr;
  errno = 0;
  *number = strtol(text.c_str(), &end, 10);
  return errno == 0 && *end == '\0' && *number <= most;
}

bool ParseUuid(std::string_view digits, Uuid* uuid) {
  if (digits.size() != 2 * sizeof uuid->bytes) return false;
  for (size_t at = 0; at < digits.size(); at++) {
    const char digit = digits[at];
    const bool letter = digit >= 'a' && digit <= 'f';
    if (!letter && (digit < '0' || digit > '9')) return false;
    const int value = letter ? digit - 'a' + 10 : digit - '0';
    unsigned char& byte = uuid->bytes[at / 2];
    byte = static_cast<unsigned char>(at % 2 == 0 ? value << 4 : byte | value);
  }
  return true;
}

bool ParsePair(std::string_view text, GpuPair* pair) {
  const size_t middle = text.find('=');
  return middle != std::string_view::npos && ParseUuid(text.substr(0, middle), &pair->old_gpu) &&
         ParseUuid(text.substr(middle + 1), &pair->new_gpu);
}

std::string Gpus(const std::string& management) {
  std::string driver;
  std::vector<Gpu> gpus;
  const std::string problem = ListGpus(management, &driver, &gpus);
  if (!problem.empty()) return "problem\t" + problem;
  std::string answer = "ok\t" + driver;
  for (const Gpu& gpu : gpus)
    answer += '\t' + gpu.uuid + '\t' + std::to_string(gpu.minor) + '\t' + std::to_string(gpu.memory_bytes) + '\t' +
              (gpu.mig ? '1' : '0') + '\t' + (gpu.persistence ? '1' : '0') + '\t' + (gpu.vgpu ? '1' : '0') + '\t' + gpu.name;
  return answer;
}

std::string Uses(const std::string& management) {
  std::vector<Use> uses;
  const std::string problem = ListUse(management, &uses);
  if (!problem.empty()) return "problem\t" + problem;
  std::string answer = "ok";
  for (const Use& use : uses)
    answer += '\t' + use.gpu + '\t' + std::to_string(use.pid) + '\t' + std::to_string(use.bytes);
  return answer;
}

std::string OfProcess(const std::vector<std::string>& request, const Driver& driver) {
  const std::string& command = request[1];
  long pid = 0, timeout = 0;
  if (request.size() < 3 || !Number(request[2], INT_MAX, &pid) || pid == 0) return "problem\tno process is named";
  int value = -1;
  Result result = kSuccess;
  bool valued = false;
  if (command == "state") {
    result = driver.State(static_cast<int>(pid), &value);
    valued = true;
  } else if (command == "thread") {
    result = driver.RestoreThread(static_cast<int>(pid), &value);
    valued = true;
  } else if (command == "lock") {
    if (request.size() != 4 || !Number(request[3], UINT_MAX, &timeout)) return "problem\tno time-out is named";
    result = driver.Lock(static_cast<int>(pid), static_cast<uint32_t>(timeout));
  } else if (command == "checkpoint") {
    result = driver.Checkpoint(static_cast<int>(pid));
  } else if (command == "restore") {
    std::vector<GpuPair> pairs;
    for (size_t at = 3; at < request.size(); at++) {
      GpuPair pair{};
      if (!ParsePair(request[at], &pair)) return "problem\tno pair of GPUs: " + request[at];
      pairs.push_back(pair);
    }
    result = driver.Restore(static_cast<int>(pid), pairs);
  } else if (command == "device") {
    long major = 0, minor = 0;
    if (request.size() != 6 || !Number(request[4], 4095, &major) || !Number(request[5], 1048575, &minor))
      return "problem\tno device is named";
    const std::string problem =
        MakeDeviceNode(static_cast<int>(pid), request[3], static_cast<unsigned>(major), static_cast<unsigned>(minor));
    return problem.empty() ? "ok" : "problem\t" + problem;
  } else if (command == "unlock") {
    result = driver.Unlock(static_cast<int>(pid));
  } else {
    return "problem\tunknown request";
  }
  if (result != kSuccess) return "error\t" + std::to_string(result) + '\t' + driver.NameOf(result);
  return valued ? "ok\t" + std::to_string(value) : "ok";
}

}  // namespace

std::vector<std::string> Fields(std::string_view line) {
  std::vector<std::string> fields;
  for (size_t at = 0; at <= line.size();) {
    const size_t end = line.find('\t', at);
    fields.emplace_back(line.substr(at, end == std::string_view::npos ? end : end - at));
    if (end == std::string_view::npos) break;
    at = end + 1;
  }
  return fields;
}

std::string Answer(const std::vector<std::string>& request, const Driver& driver, const std::string& management) {
  if (request.size() < 2) return "problem\tunknown request";
  if (request[1] == "gpus") return Gpus(management);
  if (request[1] == "use") return Uses(management);
  return OfProcess(request, driver);
}

}  // namespace thaw
