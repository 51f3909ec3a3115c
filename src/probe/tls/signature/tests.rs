//! Signatures by openssl 3.0 of the six letters `vitald`, with keys of all kinds.

use rustls::internal::msgs::codec::Codec;

use super::*;

const MESSAGE: &[u8] = b"vitald";

const RSA_1024: &str = "\
    30819f300d06092a864886f70d010101050003818d0030818902818100d2728ffd907e2d1994c19622fe464a2f72\
    ce6e7106f2d55b36d619d9dcaf4312b64dae61be6d82f2667ead386069e14bbf036e207c0d51445f10a4eac1491a\
    99e6422c90c113b3fd1742efd1fd4023aa7ffd74944047b5667d42a6ed609cd62c95d2a7ca8d8a894c867649dc0f\
    461d9adf8f04120b972b5962ad10b2bb5b72570203010001";
const RSA_1024_SHA1: &str = "\
    73fbd3c4634102ec12e0e9b5f242810e557e6aed11175b0a8f82290f9f60da26f98240b51a056d19cc90bcdf4eb8\
    3e83f0c8db45f5f1dfa74ad7db98aea555a5c7a891f6ebac0a50f1a399bfff37059b90e302a6cce6f5bc02eb2904\
    4b18ffe1f2b27252cc4f71812409d1325002ea09e35610ec17faf8f90346ffae46c0c3dc";
const RSA_1024_SHA256: &str = "\
    3c5683977636f7ddfa6996c3acf7d4cc1720d922dbcaa8adc07edf684fb76cddeebc4ca8f9c38f1539e2260a5a58\
    53eedf161a456547ab3a0235d12ce1f5d452fe2e0474e4202d26b4a9ce7e04859d474d70100b918281cc79b1b592\
    bedf13b3c049f8cc1d50a544333e115cbfdcf66b2d5e0e820f402a5bab2d4e51b06f624e";
const RSA_1024_SHA384: &str = "\
    23642060d87044ebdd9727a1b2bffa70e3dc9ddb4c278c5f74939d54d26c5a02f6bdd8479e65eba27561739850bc\
    71b599d68811de29c6062008c39feb6aa6aa884704a05331abe0da2f6022c4b5769cdfb44b718e6c02ac065199d4\
    c740a5348abc14ce477b9c2a6ca2998e3738fb02fdb3aed83a2ac1e71a6ed66d5ab63f42";
const RSA_1024_SHA512: &str = "\
    9f8b1bedc55d2af7be38ba394bdb5f8510d85459cf14626dcb57d3b2c5478571125ffc31179cef6ea22e628bf8e5\
    9e42e7bebf151ce3dfe03936913536f30d245a96ad9686590d23ac4ed7d674253c3e5e4e2c922c3562d19ad80901\
    d77313901ffa04a454e82c2fdd0609dc39d7c0cc8a3eece8e2513d7f4c745e3ccfbe2501";
const RSA_768: &str = "\
    307c300d06092a864886f70d0101010500036b003068026100dc985a375d23dda98c1e7d29f908eea4fbb0041875\
    38cfc8c56f75e42a73a8b0647211c50aa6225da416ff7e48151d005086686f41b0189bcee473f4d0876ec765936a\
    8e305b39b6e8161ce99418914a8733d297eef13777f46f859e5e9dffdd0203010001";
const RSA_768_SHA256: &str = "\
    bb87634984c8ff44630f36d588fa1a16729a04d6cb2f2721dbf42c7037984cbc4e542688e5e3fa27a1202512e796\
    442c26efe51c7814b26c17bef8e21f0cc313bb5a81af2282f10218f5948fcb7d7ddc1fe5145e151c73fe9058eaa5\
    9b1f70ab";
const PSS_2048: &str = "\
    30820120300b06092a864886f70d01010a0382010f003082010a0282010100906328a5b62af70aab8f5cf0750bca\
    86356a496c97e868f3d343e9c1e69c7e0170eaf5f959339bb94de7a193d441b24f15afbdc8113e916661153021f9\
    22c81c8da0d6d4792441a80864726298befd4e6bed76099369331193296df2e0e6c9299149fdfc5fc7bf2282896f\
    f096b8af6dde4355fd710a44180c0b60af9e8a8114a4e97ee5db5a37269dae5a46818a14e61848e02daba323e86d\
    52c73a636fb4e9d91430c682bd5aae7cbe6d4c8c0cd4ad050288b93400537ce856f95fd1baa11f4f8eb5e6b071ce\
    59f67047cd90e4cad62a94d49eafeb8eee5da11038cddeb7c4b1caeb465b169bdd92a8ab9c7d6ab4374665253f9b\
    ac031fde71296ed36d27650203010001";
const PSS_2048_SHA256: &str = "\
    5abcec7b887753e1ea3ce38f617279de06b501fe58706b9a672e369c8782e097d3d1ffa0799dae4e9c7be1529231\
    a01734eabb8f1e8fbf8633dda8e65b8b36a5e1114bf0808d2292c05de260cf44b43603a55bab8cadbe0ebcb49904\
    d92ca94834ce7f34e2ba1f5fdcd18fad6a6772a21a7f03f1008e25f2ce7e5698d3ce38e7d21209c3a78baf50a9d5\
    ad463a9b499c30179aa8ee88cf0d891e99536d155f06118dbaf2610fe25f343648bb332fd058c1352e708ad89440\
    b03d25ec1c1129853cfbdd495b454f9b16195509b25c1ffe2c22cf12702c298b3d878aaa85dee9df21c9abbb44a5\
    ea0dcb3f628dbf3de988bc5974798ecec94e1cb19251fa1408da";
const P521: &str = "\
    30819b301006072a8648ce3d020106052b810400230381860004008aee2adfc7d09144829e604179ae90feb17d99\
    6599c77fffe78678082a65c5210cb5178b66d3a2a58bdff7229cd213da35e9650eb7b362e14b5137541c6f1d2c3e\
    002f5ef2684b0226001a45cfd5fbc8b352025f9d8d2533c885bb0ba0da5e99ff2606f6f6b3bb0fc16d3dce19afe3\
    990e25ef409221389083410d4cb397ade8a59994";
const P521_SHA256: &str = "\
    308187024200f7f27b3223fe3a6c992e9c6a7295fdc47d2222cc5b72b1e5ceeb522920f9e2e66cc8236d41dbeadb\
    6efe7f4509e3757fdd064ffa0f3fe92d7191413e519e0504f20241229ea74d8bb3afbc6c299f5724608489cfbf34\
    6bfbe3459b8f13996770cdad3ef059484fc67ec60efce1a1cf86f1329a15d61422c07da86f383bcefae12661a9ea";
const P521_SHA512: &str = "\
    308188024201540b2f4f9ceeb7755effbb44b6b61d9def32dce5f16ad74e5a2a8e461c27cdf1903d61480e5d8d92\
    621bc5aa4a6058d041240f94cdeffc180b9ddbf1d7733640e00242009dde6204aa5fbac8b0e508762c2e6097b667\
    eedbc98cec6481b142c047f62a1b7e2e9a9f8de77481ae6712e78af32eb7ccc05405aebb18511fafae7792e67086\
    0f";
const P256: &str = "\
    3059301306072a8648ce3d020106082a8648ce3d03010703420004d4205a363e0aaa419ad79be7a4e9c70f34cd3d\
    3473239cc7dac334508057364d66e5c1b04708f9182b0dd4d817d361683e38e2edcab9a8b3fc4e6e0280ead252";
const P256_SHA512: &str = "\
    30460221008ac078244e70eea128a93c777aea7211d118fe8f5973fddcd62be9c87174c01a022100c1d33eabfc32\
    808d1180678445310104c5f7a67f81723cbefc4533904c884293";
const P256_SHA1: &str = "\
    3046022100b98437c47d22b2f7287be6fe75dc49b32405d83b10a9e2240075f540fa7d1fda022100886f18404186\
    61c80b4df4a94383df0fe97cd153155cc6384dcbb23c28ee433b";
const ED448: &str = "\
    3043300506032b6571033a00126a76be400fbc3ec71f71075256cd4f197f8dd9d7f98b649fcb66017fcd2377f19f\
    7e4d840cb1d4fc7a4fdf4657d9a393d80693fc4a4c7180";
const BRAINPOOL: &str = "\
    305a301406072a8648ce3d020106092b2403030208010107034200047f0f483b98e823cf8adb4497bee37e2dec3e\
    0ab3e570b58aa845608c915ecd8333cc578506f17dfa847ec23a48a9882fbf2e6371bc4b60ff78dc03f95dd9ccfc";

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16);
    hex.as_bytes().chunks(2).map(|pair| digits(pair).expect("hex digits")).collect()
}

/// A signature as it comes in a handshake: its scheme, its length, itself.
fn signed(scheme: u16, signature: &[u8]) -> DigitallySignedStruct {
    let length = u16::try_from(signature.len()).expect("a short signature");
    let message = [&scheme.to_be_bytes()[..], &length.to_be_bytes(), signature].concat();
    DigitallySignedStruct::read_bytes(&message).expect("a signature")
}

fn proof(key: &str, scheme: u16, signature: &[u8], is_verified: bool) -> KeyProof {
    let key = bytes(key);
    let (_, key) = SubjectPublicKeyInfo::from_der(&key).expect("a key");
    let refusal = Error::InvalidCertificate(CertificateError::BadSignature);
    prove(&key, MESSAGE, &signed(scheme, signature), &refusal, is_verified)
}

#[test]
fn keys_that_the_tls_library_refuses_are_proved_where_aws_lc_can() {
    for (key, scheme, signature) in [
        (RSA_1024, 0x0201, RSA_1024_SHA1),
        (RSA_1024, 0x0401, RSA_1024_SHA256),
        (RSA_1024, 0x0601, RSA_1024_SHA512),
        (PSS_2048, 0x0809, PSS_2048_SHA256),
        (PSS_2048, 0x0804, PSS_2048_SHA256),
        (P521, 0x0403, P521_SHA256),
        (P521, 0x0603, P521_SHA512),
        (P256, 0x0603, P256_SHA512),
        (P256, 0x0203, P256_SHA1),
    ] {
        let mut signature = bytes(signature);
        assert_eq!(proof(key, scheme, &signature, false), KeyProof::Given, "{scheme:#06x}");
        if let Some(last) = signature.last_mut() {
            *last ^= 1;
        }
        assert_eq!(proof(key, scheme, &signature, false), KeyProof::False, "{scheme:#06x}");
    }
}

#[test]
fn a_key_that_nothing_here_can_use_is_named() {
    for (key, scheme, signature, what) in [
        (RSA_1024, 0x0501, RSA_1024_SHA384, "an RSA key of 1024 bits"),
        (RSA_1024, 0x0804, RSA_1024_SHA256, "an RSA key of 1024 bits"),
        (RSA_768, 0x0401, RSA_768_SHA256, "an RSA key of 768 bits"),
        (ED448, 0x0808, RSA_768_SHA256, "an Ed448 key"),
        (BRAINPOOL, 0x081a, P256_SHA1, "a key on the curve 1.3.36.3.3.2.8.1.1.7"),
    ] {
        let refusal = Error::PeerMisbehaved(rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme);
        let key = bytes(key);
        let (_, key) = SubjectPublicKeyInfo::from_der(&key).expect("a key");
        let proof = prove(&key, MESSAGE, &signed(scheme, &bytes(signature)), &refusal, false);
        assert_eq!(proof, KeyProof::Impossible(what.to_owned()));
    }
}

#[test]
fn a_key_of_one_kind_does_not_sign_for_another() {
    for (key, scheme) in
        [(RSA_1024, 0x0403), (RSA_1024, 0x0807), (P256, 0x0804), (ED448, 0x0401), (P521, 0x0808)]
    {
        assert_eq!(proof(key, scheme, &bytes(P256_SHA512), false), KeyProof::False, "{scheme:#06x}");
    }
}

#[test]
fn a_short_key_or_a_broken_hash_proves_nothing_where_certificates_are_verified() {
    for (key, scheme, signature, what) in [
        (RSA_1024, 0x0401, RSA_1024_SHA256, "an RSA key of 1024 bits"),
        (P256, 0x0203, P256_SHA1, "a P-256 key"),
    ] {
        let proof = proof(key, scheme, &bytes(signature), true);
        assert_eq!(proof, KeyProof::Impossible(what.to_owned()));
    }
    assert_eq!(proof(PSS_2048, 0x0809, &bytes(PSS_2048_SHA256), true), KeyProof::Given);
}

#[test]
fn every_scheme_that_is_offered_has_a_name() {
    let own = aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes();
    let all = offered(own.clone(), VerifyCertificate::No);
    for scheme in &all {
        assert!(!name(*scheme).starts_with("0x"), "{scheme:?}");
    }
    assert!(own.iter().all(|scheme| all.contains(scheme)));
    let verified = offered(own.clone(), VerifyCertificate::Yes);
    assert_eq!(verified.get(..own.len()), Some(own.as_slice()), "the library's own come first");
    assert!(!verified.iter().any(|scheme| hash_is_weak(*scheme)), "{verified:?}");
}
