//! The Russian page at the root says what the English one says: it has the same headings by number and level, the same
//! fenced blocks, the same tables by number of rows, and the same links.

use super::page::Page;

#[test]
fn the_russian_page_has_the_headings_the_commands_and_the_tables_of_the_english_one() {
    let (english, russian) = (Page::read("README.md"), Page::read("README.ru.md"));
    let levels = |page: &Page| page.headings().iter().map(|(level, _)| *level).collect::<Vec<_>>();
    assert_eq!(
        levels(&russian),
        levels(&english),
        "the headings of README.ru.md (left) and README.md differ"
    );
    let blocks = |page: &Page| {
        let blocks = page.blocks().into_iter();
        blocks.map(|block| (block.kind, block.note, block.text)).collect::<Vec<_>>()
    };
    let (ours, theirs) = (blocks(&russian), blocks(&english));
    assert_eq!(
        ours.len(),
        theirs.len(),
        "README.ru.md (left) and README.md have different numbers of blocks"
    );
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "a block of README.ru.md (left) differs from that of README.md");
    }
    let cells = |page: &Page| page.rows().iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(cells(&russian), cells(&english), "the tables of README.ru.md (left) and README.md differ");
}

#[test]
fn the_russian_page_has_the_links_of_the_english_one() {
    let links = |path: &str| {
        let page = Page::read(path);
        let lines: Vec<String> = page.prose().iter().map(|(_, line)| (*line).to_owned()).collect();
        let mut links: Vec<String> = lines
            .iter()
            .flat_map(|line| {
                line.split("](").skip(1).filter_map(|piece| piece.split(')').next()).map(str::to_owned)
            })
            .filter(|target| !target.starts_with("README"))
            // An anchor is in the language of its page.
            .map(|target| if target.starts_with('#') { "#".to_owned() } else { target })
            .collect();
        links.sort();
        links
    };
    assert_eq!(
        links("README.ru.md"),
        links("README.md"),
        "the links of README.ru.md (left) and README.md differ"
    );
}
