#include "launch/protocol/handshake.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

namespace espalier {
namespace {

constexpr int kMaxJsonDepth = 16;

// The text that both proofs and the session keys are computed from. `purpose` keeps one use of the
// token from being good for another.
std::string transcript(std::string_view purpose, const Frame& hello, const SecretKey& worker_nonce,
                       const SecretKey& coordinator_nonce) {
  std::string text(purpose);
  text += '\n' + std::to_string(hello.generation) + '\n' + std::to_string(hello.rank) + '\n' +
          to_hex(worker_nonce) + '\n' + to_hex(coordinator_nonce) + '\n' + hello.payload;
  return text;
}

SessionKeys session_keys(const SecretKey& token, const Frame& hello, const SecretKey& worker_nonce,
                         const SecretKey& coordinator_nonce) {
  return {
      hmac_sha256(token, transcript("seal to coordinator", hello, worker_nonce, coordinator_nonce)),
      hmac_sha256(token, transcript("seal to worker", hello, worker_nonce, coordinator_nonce))};
}

SecretKey key_field(const nlohmann::json& payload, const char* name) {
  const auto field = payload.find(name);
  const auto key = field != payload.end() && field->is_string()
                       ? from_hex(field->get_ref<const std::string&>())
                       : std::nullopt;
  if (!key) throw FrameError(std::string("the handshake lacks its ") + name);
  return *key;
}

bool equal(const SecretKey& a, const SecretKey& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

struct FileDescriptor {
  int fd;
  ~FileDescriptor() {
    if (fd >= 0) ::close(fd);
  }
};

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw std::runtime_error("token file " + path + ": " + what);
}

}  // namespace

SecretKey hmac_sha256(const SecretKey& key, std::string_view message) {
  SecretKey out{};
  unsigned int length = 0;
  if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(message.data()), message.size(), out.data(),
           &length) == nullptr) {
    throw std::runtime_error("OpenSSL could not compute an HMAC");
  }
  return out;
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

nlohmann::json parse_payload(std::string_view payload) {
  const auto limit_depth = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kMaxJsonDepth) throw FrameError("a payload nests too deeply");
    return true;
  };
  auto parsed = nlohmann::json::parse(payload, limit_depth, /*allow_exceptions=*/false);
  if (!parsed.is_object()) throw FrameError("a payload is not a JSON object");
  return parsed;
}

WorkerHandshake::WorkerHandshake(const SecretKey& token, uint32_t generation, uint32_t rank,
                                 const HelloMessage& identity)
    : token_(token), nonce_(random_key()) {
  nlohmann::json payload = identity.encode();
  payload["nonce"] = to_hex(nonce_);
  hello_ = {MessageType::kHello, generation, rank, 0, payload.dump()};
}

Frame WorkerHandshake::hello() const { return hello_; }

Frame WorkerHandshake::answer(const Frame& challenge) {
  const auto payload = parse_payload(challenge.payload);
  if (challenge.type == MessageType::kBye) {
    throw FrameError("refused: " + RefusalMessage::decode(payload).why);
  }
  if (challenge.type != MessageType::kChallenge) throw FrameError("expected a CHALLENGE");
  const SecretKey theirs = key_field(payload, "nonce");
  const SecretKey expected =
      hmac_sha256(token_, transcript("coordinator proves", hello_, nonce_, theirs));
  if (!equal(expected, key_field(payload, "proof"))) {
    throw FrameError("the peer does not hold this run's token");
  }
  keys_ = session_keys(token_, hello_, nonce_, theirs);
  const SecretKey proof = hmac_sha256(token_, transcript("worker proves", hello_, nonce_, theirs));
  return {MessageType::kProof, hello_.generation, hello_.rank, 1,
          nlohmann::json{{"proof", to_hex(proof)}}.dump()};
}

CoordinatorHandshake::CoordinatorHandshake(const SecretKey& token)
    : token_(token), nonce_(random_key()) {}

Frame CoordinatorHandshake::challenge(const Frame& hello) {
  if (hello.type != MessageType::kHello || challenged_) throw FrameError("expected a HELLO");
  const SecretKey theirs = key_field(parse_payload(hello.payload), "nonce");
  hello_ = hello;
  challenged_ = true;
  expected_proof_ = hmac_sha256(token_, transcript("worker proves", hello_, theirs, nonce_));
  keys_ = session_keys(token_, hello_, theirs, nonce_);
  const SecretKey proof =
      hmac_sha256(token_, transcript("coordinator proves", hello_, theirs, nonce_));
  return {MessageType::kChallenge, hello.generation, hello.rank, 0,
          nlohmann::json{{"nonce", to_hex(nonce_)}, {"proof", to_hex(proof)}}.dump()};
}

void CoordinatorHandshake::check(const Frame& proof) {
  if (proof.type != MessageType::kProof || !challenged_) throw FrameError("expected a PROOF");
  if (!equal(expected_proof_, key_field(parse_payload(proof.payload), "proof"))) {
    throw FrameError("the peer does not hold this run's token");
  }
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

}  // namespace espalier
