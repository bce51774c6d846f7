#include "launch/protocol/token.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <openssl/rand.h>

#include "trainer/errors.h"

namespace espalier {
namespace {

struct FileDescriptor {
  int fd;
  ~FileDescriptor() {
    if (fd >= 0) ::close(fd);
  }
};

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw ConfigError("token file " + path + ": " + what);
}

}  // namespace

std::string_view name_of(Role role) {
  switch (role) {
    case Role::kWorker:
      return "worker";
    case Role::kOperator:
      return "operator";
    case Role::kReader:
      return "reader";
  }
  return "";
}

Role role_of(uint32_t rank) {
  if (rank == kOperatorRank) return Role::kOperator;
  return rank == kReaderRank ? Role::kReader : Role::kWorker;
}

const SecretKey& RoleTokens::of(Role role) const {
  if (role == Role::kOperator) return operation;
  return role == Role::kReader ? reading : worker;
}

SecretKey random_key() {
  SecretKey key{};
  if (RAND_bytes(key.data(), static_cast<int>(key.size())) != 1) {
    throw std::runtime_error("OpenSSL has no random bytes");
  }
  return key;
}

std::string to_hex(const SecretKey& key) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const uint8_t byte : key) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

std::optional<SecretKey> from_hex(std::string_view hex) {
  SecretKey key{};
  if (hex.size() != 2 * key.size()) return std::nullopt;
  for (size_t i = 0; i < hex.size(); ++i) {
    const char c = hex[i];
    int digit = 0;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else {
      return std::nullopt;
    }
    key[i / 2] = static_cast<uint8_t>(key[i / 2] << 4 | digit);
  }
  return key;
}

SecretKey load_token(const std::string& path) {
  const FileDescriptor file{::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC)};
  if (file.fd < 0) fail(path, std::strerror(errno));
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) fail(path, std::strerror(errno));
  if (info.st_uid != ::geteuid()) fail(path, "belongs to another user");
  if ((info.st_mode & 077) != 0) fail(path, "can be read by others; chmod 600 it");
  char text[65] = {};
  const ssize_t got = ::read(file.fd, text, sizeof(text));
  const auto key = got >= 64 ? from_hex(std::string_view(text, 64)) : std::nullopt;
  if (!key) fail(path, "is not 64 hexadecimal digits; delete it to get a new one");
  return *key;
}

SecretKey load_or_create_token(const std::string& path) {
  const FileDescriptor file{
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
  if (file.fd >= 0) {
    const std::string text = to_hex(random_key()) + "\n";
    if (::write(file.fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      fail(path, std::strerror(errno));
    }
  } else if (errno != EEXIST) {
    fail(path, std::strerror(errno));
  }
  return load_token(path);
}

std::string token_path(const std::string& directory, Role role) {
  return directory + "/" + std::string(name_of(role));
}

RoleTokens load_or_create_tokens(const std::string& directory) {
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    fail(directory, std::strerror(errno));
  }
  return {load_or_create_token(token_path(directory, Role::kWorker)),
          load_or_create_token(token_path(directory, Role::kOperator)),
          load_or_create_token(token_path(directory, Role::kReader))};
}

}  // namespace espalier
