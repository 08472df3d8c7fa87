//! Which schemas the server writes to its binary log.
//!
//! Input: the lists of `binlog_do_db` and `binlog_ignore_db`, as `SHOW MASTER STATUS` tells them. Output: whether the
//! changes of a schema are in the log.

/// Which schemas the server writes to its binary log. All of them by default.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    only: Vec<String>,
    never: Vec<String>,
}

impl Filter {
    pub(super) fn new(only: &str, never: &str) -> Self {
        let list = |text: &str| -> Vec<String> {
            let names = text.split(',').filter(|name| !name.is_empty());
            names.map(str::to_owned).collect()
        };
        Self {
            only: list(only),
            never: list(never),
        }
    }

    /// Whether it leaves anything out.
    pub(super) fn is_on(&self) -> bool {
        !self.only.is_empty() || !self.never.is_empty()
    }

    /// Whether the log has the changes of that schema. A server that has both lists looks at the first only.
    pub(super) fn lets(&self, schema: &str) -> bool {
        let is = |name: &String| name == schema;
        if self.only.is_empty() {
            !self.never.iter().any(is)
        } else {
            self.only.iter().any(is)
        }
    }

    /// The settings as the server has them, for a message.
    pub(super) fn told(&self) -> String {
        if self.only.is_empty() {
            format!("binlog_ignore_db is {}", self.never.join(","))
        } else {
            format!("binlog_do_db is {}", self.only.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_in_the_log_unless_a_list_leaves_it_out() {
        let none = Filter::new("", "");
        assert!(!none.is_on() && none.lets("shop"));
        let only = Filter::new("shop,orders", "shop");
        assert!(only.is_on() && only.lets("shop") && only.lets("orders"));
        assert!(!only.lets("users") && !only.lets("sho"));
        let never = Filter::new("", "users,tmp");
        assert!(never.is_on() && never.lets("shop"));
        assert!(!never.lets("users") && !never.lets("tmp"));
    }
}
