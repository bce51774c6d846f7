#include "launch/protocol/tls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/verify_context.hpp>

#include "trainer/errors.h"

namespace espalier {
namespace ssl = boost::asio::ssl;
namespace fs = std::filesystem;

namespace {

constexpr long kDaysValid = 730;

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Freed<X509_EXTENSION_free>>;
using Bio = std::unique_ptr<BIO, Freed<BIO_free>>;

[[noreturn]] void fail(const std::string& what) {
  char text[256] = "";
  ERR_error_string_n(ERR_get_error(), text, sizeof(text));
  throw ConfigError("TLS: " + what + (text[0] == '\0' ? "" : std::string(" (") + text + ")"));
}

bool is_address(const std::string& host) {
  return host.find_first_not_of("0123456789.") == std::string::npos ||
         host.find(':') != std::string::npos;
}

void add_extension(X509* certificate, int kind, const std::string& value) {
  const Extension extension(X509V3_EXT_conf_nid(nullptr, nullptr, kind, value.c_str()));
  if (!extension || X509_add_ext(certificate, extension.get(), -1) != 1) {
    fail("\"" + value + "\" cannot stand in a certificate");
  }
}

Certificate sign_own(EVP_PKEY* key, const std::vector<std::string>& hosts) {
  Certificate out(X509_new());
  X509_set_version(out.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(out.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(out.get()), -3600);  // clocks of hosts differ
  X509_gmtime_adj(X509_getm_notAfter(out.get()), 60L * 60 * 24 * kDaysValid);
  X509_set_pubkey(out.get(), key);
  X509_NAME* name = X509_get_subject_name(out.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>("espalier coordinator"), -1, -1,
                             0);
  X509_set_issuer_name(out.get(), name);
  std::string names;
  for (const auto& host : hosts) {
    names += (names.empty() ? "" : ",") + std::string(is_address(host) ? "IP:" : "DNS:") + host;
  }
  if (!names.empty()) add_extension(out.get(), NID_subject_alt_name, names);
  add_extension(out.get(), NID_basic_constraints, "critical,CA:FALSE");
  if (X509_sign(out.get(), key, EVP_sha256()) == 0) fail("a certificate could not be signed");
  return out;
}

template <class Write>
void write_pem(const std::string& path, mode_t mode, const Write& write) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  if (fd < 0) {
    throw ConfigError(path + ": " + std::strerror(errno) +
                      (errno == EEXIST ? "; delete it first, or name another folder" : ""));
  }
  std::FILE* file = ::fdopen(fd, "w");
  const bool is_written = write(file) == 1;
  if (std::fclose(file) != 0 || !is_written) throw ConfigError(path + ": could not be written");
}

std::shared_ptr<ssl::context> tls_1_3() {
  auto context = std::make_shared<ssl::context>(ssl::context::tls);
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_3_VERSION);
  // Every connection proves anew who it is; nothing is kept for it to come back by.
  SSL_CTX_set_num_tickets(context->native_handle(), 0);
  SSL_CTX_set_session_cache_mode(context->native_handle(), SSL_SESS_CACHE_OFF);
  // A connection that waits gives its buffers back: thousands may only wait.
  SSL_CTX_set_mode(context->native_handle(), SSL_MODE_RELEASE_BUFFERS);
  return context;
}

}  // namespace

CertificateFiles::CertificateFiles(std::string path) : folder(std::move(path)) {
  for (const auto& file : {certificate(), key()}) {
    if (!fs::is_regular_file(file)) {
      throw ConfigError(file + " is not there; `espalier certificate " + folder +
                        "` makes a certificate and its key");
    }
  }
  struct stat info {};
  if (::stat(key().c_str(), &info) == 0 && (info.st_mode & 077) != 0) {
    throw ConfigError(key() + " can be read by others; chmod 600 it");
  }
}

void make_certificate(const std::string& folder, const std::vector<std::string>& hosts) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw ConfigError(folder + " cannot be written: " + error.message());
  const Key key(EVP_EC_gen("P-256"));
  if (!key) fail("no key could be made");
  const Certificate certificate = sign_own(key.get(), hosts);
  write_pem(folder + "/key.pem", 0600, [&](std::FILE* file) {
    return PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  });
  write_pem(folder + "/certificate.pem", 0644,
            [&](std::FILE* file) { return PEM_write_X509(file, certificate.get()); });
}

TlsContext tls_of_coordinator(const CertificateFiles& files) {
  auto context = tls_1_3();
  boost::system::error_code error;
  context->use_certificate_chain_file(files.certificate(), error);
  if (error) throw ConfigError(files.certificate() + ": " + error.message());
  context->use_private_key_file(files.key(), ssl::context::pem, error);
  if (error) throw ConfigError(files.key() + ": " + error.message());
  return context;
}

TlsContext tls_of_peer(const std::string& certificate_pem) {
  const Bio text(BIO_new_mem_buf(certificate_pem.data(), static_cast<int>(certificate_pem.size())));
  const std::shared_ptr<X509> expected(PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr),
                                       X509_free);
  if (!expected) fail("the coordinator's certificate cannot be read");
  auto context = tls_1_3();
  context->set_verify_mode(ssl::verify_peer);
  // It must be that very certificate: who signed it, for whom and until when plays no part.
  context->set_verify_callback([expected](bool, ssl::verify_context& seen) {
    X509_STORE_CTX* store = seen.native_handle();
    return X509_STORE_CTX_get_error_depth(store) > 0 ||
           X509_cmp(X509_STORE_CTX_get_current_cert(store), expected.get()) == 0;
  });
  return context;
}

}  // namespace espalier
