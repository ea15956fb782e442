#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Checks the subject of every commit after BASE: "area: verb ...", imperative, 72 columns at most.
# The area is a folder, a file or a program, or several with ", " between them. Whether a word is a
# verb is not known here; words that cannot begin an imperative sentence are refused. Merges are
# not checked. Without git, without a repository or without BASE in it (an archive, a shallow
# clone) nothing can be checked: the script says so and succeeds.
# Prints each finding and exits 1. Usage: subjects.sh [DIR [BASE]]
set -u
export LC_ALL=C

# Older commits have subjects of another form, and history is not rewritten.
base=${2:-ba50a11885b02e56a0ce0aa057922c02776092bb}
cd "${1:-$(dirname "$0")/..}" || exit 2

not_checked()
{
    echo "subjects: SKIP: the history was not checked: $1"
    exit 0
}

command -v git > /dev/null || not_checked "git is not installed"
git rev-parse --git-dir > /dev/null 2>&1 || not_checked "this is no git repository"
git cat-file -e "$base^{commit}" 2> /dev/null ||
    not_checked "commit $base is not in this repository"
subjects=$(git log --no-merges --format='%h %s' "$base..HEAD" 2> /dev/null) ||
    not_checked "git cannot list the commits after $base"

printf '%s\n' "$subjects" | awk '
    function set_of(text, set,    words, i) {
        split(text, words, " ")
        for (i in words)
            set[words[i]] = 1
    }
    function finding(text) {
        printf "subjects: %s \"%s\": %s\n", hash, subject, text
        findings++
    }
    BEGIN {
        # Verbs that look like another form of a verb.
        set_of("embed shed wed", ed)
        set_of("alias bias bus canvas focus gas", s)
        set_of("bring cling fling king ping ring sing sling spring sting string swing wing wring", ing)
        set_of("apply comply imply multiply rely reply supply fly", ly)
        # Articles, pronouns, question words, conjunctions, prepositions, auxiliaries and the
        # commonest adjectives and irregular forms.
        set_of("a an the this that these those it its he she they their them we our us i my you your " \
            "who whom whose what which where when why how whether if unless while until because " \
            "and or but nor so as than then there here also too very now ever never no none nobody " \
            "nothing some somebody something any anybody anything all both each every either " \
            "neither other another others one ones two three four five six seven eight nine ten first " \
            "last next same such " \
            "in on at to of for from by with without within into onto over under about after " \
            "before between beside behind during through per via " \
            "is are was were am been being has had does did will would shall should can could may " \
            "might must not new more most less least few many much better best good bad small " \
            "went gone came made gave given took taken ran wrote written kept left found sent told " \
            "said saw seen knew known got began begun broke broken chose held lost meant brought " \
            "built thought fewer", words)
    }
    NF == 0 { next }
    {
        hash = $1
        subject = substr($0, length($1) + 2)
        text = subject
        if (text ~ /^Revert ".+"$/)
            next # as git revert writes it; what it quotes was checked, or is older
        columns = text
        gsub(/[\200-\277]/, "", columns) # UTF-8: the first byte of a character counts
        if (length(columns) > 72)
            finding("more than 72 columns: " length(columns))
        if (text ~ /\.$/)
            finding("ends with a period")
        if (!match(text, /^[A-Za-z0-9.][A-Za-z0-9._\/()-]*(, [A-Za-z0-9._\/()-]+)*: /)) {
            finding("does not have the form \"area: verb ...\"")
            next
        }
        verb = substr(text, RLENGTH + 1)
        sub(/[ ,:].*/, "", verb)
        if (verb !~ /^[a-z]+(-[a-z]+)*$/)
            finding("\"" verb "\" is no verb in lower case")
        else if (verb in words)
            finding("begins with \"" verb "\", not with an imperative")
        else if (verb ~ /ed$/ && verb !~ /eed$/ && !(verb in ed) ||
                 verb ~ /s$/ && verb !~ /ss$/ && !(verb in s) ||
                 verb ~ /ing$/ && !(verb in ing) || verb ~ /ly$/ && !(verb in ly))
            finding("\"" verb "\" is no imperative")
    }
    END { exit findings > 0 }'
