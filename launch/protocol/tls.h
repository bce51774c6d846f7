#pragma once

#include <memory>
#include <string>
#include <vector>

namespace boost::asio::ssl {
class context;
}

namespace espalier {

// One end's settings of TLS 1.3, which is the only version spoken. Coordinator and peers do not
// lean on anybody's certification: a peer knows the one certificate that it accepts, from the
// coordinator's address file.
using TlsContext = std::shared_ptr<boost::asio::ssl::context>;

// In a folder that `espalier certificate` makes: certificate.pem, and key.pem (0600).
struct CertificateFiles {
  explicit CertificateFiles(std::string folder);  // throws ConfigError, naming what is missing
  std::string folder;
  std::string certificate() const { return folder + "/certificate.pem"; }
  std::string key() const { return folder + "/key.pem"; }
};

// A new P-256 key and a certificate signed by itself, good for two years. Throws ConfigError when
// the folder has one already, or cannot be written.
void make_certificate(const std::string& folder, const std::vector<std::string>& hosts);

// Both throw ConfigError for files or text that OpenSSL cannot use, or a key that others can read.
TlsContext tls_of_coordinator(const CertificateFiles& files);
TlsContext tls_of_peer(const std::string& certificate_pem);

}  // namespace espalier
