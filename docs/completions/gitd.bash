# bash completion for gitd and gitd-connect; made from gitd --help; see tests/suite/deployment/completions.rs

_gitd() {
    local word=${COMP_WORDS[COMP_CWORD]} name= choice=()
    # The equals sign is a word of its own here.
    if [[ $word == = ]]; then
        name=${COMP_WORDS[COMP_CWORD - 1]} word=
    elif ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
        name=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $name in
        '') if [[ $word == -* ]]; then choice=(-W '--base-path= --base-path-relaxed --interpolated-path= --user-path --user-path= --export-all --strict-paths --access-hook= --informative-errors --moved-to= --enable= --disable= --allow-override= --forbid-override= --git-config= --nice= --listen= --port= --port-file= --require-all-listeners --socket-mode= --socket-owner= --proxy-protocol= --mptcp --mptcp= --no-mptcp --reuseaddr --inetd --detach --pid-file= --user= --group= --init-timeout= --timeout= --max-connections= --max-connections-per-address= --max-queue= --queue-timeout= --max-pending= --shutdown-timeout= --verbose --syslog --log-destination= --log-format= --no-informative-errors --status= --status-public --explain= --explain-service= --remote-addr= --help --version'); else choice=(-d); fi ;;
        --base-path) choice=(-f) ;;
        --user-path) choice=(-f) ;;
        --access-hook) choice=(-f) ;;
        --enable) choice=(-W 'upload-pack upload-archive receive-pack') ;;
        --disable) choice=(-W 'upload-pack upload-archive receive-pack') ;;
        --allow-override) choice=(-W 'upload-pack upload-archive receive-pack') ;;
        --forbid-override) choice=(-W 'upload-pack upload-archive receive-pack') ;;
        --port) choice=(-W 'auto') ;;
        --port-file) choice=(-f) ;;
        --mptcp) choice=(-W 'require') ;;
        --pid-file) choice=(-f) ;;
        --user) choice=(-u) ;;
        --group) choice=(-g) ;;
        --log-destination) choice=(-W 'stderr syslog none') ;;
        --log-format) choice=(-W 'plain json journal') ;;
        --explain-service) choice=(-W 'upload-pack upload-archive receive-pack') ;;
        *) return ;;
    esac
    mapfile -t COMPREPLY < <(compgen "${choice[@]}" -- "$word")
    if [[ ${choice[0]} == -[fd] ]]; then compopt -o filenames 2>/dev/null; fi
    if [[ ${COMPREPLY[*]} == *= ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -F _gitd gitd
complete -A hostname -W '--help --version' gitd-connect
