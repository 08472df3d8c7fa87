//! Errors of a driver that do not say what is to be done.
//!
//! Input: the driver's error. Output: the same error, with the cause and the advice in its text where the
//! driver's own text lacks them.

/// What sqlx says where MySQL wants the password itself over a connection that is not encrypted.
const NO_RSA: &str = "RSA auth backend disabled";

/// MySQL 8 and later keep a hash in memory once somebody has logged in. Until then, and after a restart, they
/// want the password itself.
const PASSWORD: &str = "MySQL asks for the password itself (caching_sha2_password), and without TLS sqlx sends \
     it only with its feature `mysql-rsa`; switch on a TLS feature of sqlx (`tls-rustls-ring-native-roots`) \
     and do not set ssl-mode=DISABLED, or switch on `mysql-rsa`; a wrong password looks the same";

/// Adds to the error what is to be done, where the driver does not say it.
pub(crate) fn with_advice(error: sqlx::Error) -> sqlx::Error {
    match error {
        sqlx::Error::Configuration(cause) if cause.to_string().starts_with(NO_RSA) => {
            sqlx::Error::Configuration(format!("{PASSWORD} (sqlx: {cause})").into())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_cannot_be_sent_is_told_with_the_features_that_send_it() {
        let text = "RSA auth backend disabled; enable feature `mysql-rsa` or use TLS.";
        let error = with_advice(sqlx::Error::Configuration(text.into())).to_string();

        for part in [
            text,
            "caching_sha2_password",
            "TLS feature",
            "wrong password",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn other_errors_stay_as_they_are() {
        let error = sqlx::Error::Configuration("no such option".into());
        let before = error.to_string();
        assert_eq!(with_advice(error).to_string(), before);
        let closed = with_advice(sqlx::Error::PoolClosed);
        assert!(matches!(closed, sqlx::Error::PoolClosed));
    }
}
