use super::*;

fn sheet(text: &str) -> Sheet {
    Sheet::new(text, 1, Path::new("test.yaml")).unwrap()
}
