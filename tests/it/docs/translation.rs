//! The Russian README follows the English one: it has the same number and levels of headings, the same fenced blocks,
//! tables of the same size, and the same links. The tests do not compare the text.

use super::page::Page;

#[test]
fn the_russian_page_has_the_structure_of_the_english_one() {
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
    let (russian_blocks, english_blocks) = (blocks(&russian), blocks(&english));
    assert_eq!(
        russian_blocks.len(),
        english_blocks.len(),
        "README.ru.md (left) and README.md have different numbers of blocks"
    );
    for (russian_blocks, english_blocks) in russian_blocks.iter().zip(&english_blocks) {
        assert_eq!(
            russian_blocks, english_blocks,
            "a block of README.ru.md (left) differs from that of README.md"
        );
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
