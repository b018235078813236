/**
 * What runs inside a Python sandbox, before the program: it takes requests on a channel of its own and answers
 * with plain values. It captures the built-ins that it needs before any foreign code runs. A program that
 * patches it anyway can only return other values, which it could have returned without; what is expected of
 * it never enters the process.
 *
 * `transport` defines `receive()` (blocks for one line), `transmit(text)` and the functions that redirect the
 * standard streams: `begin_io(stdin)` and `end_io()`, which returns what was printed, or None past the limit.
 *
 * Values are encoded by their exact type: an instance of a subclass could say of itself what it likes. Long integers go as hexadecimal
 * digits, as decimal ones take time that grows with the square of their number. What is not plain is named by its type, and equals
 * nothing.
 *
 * Operations: `load` runs the program's definitions as a module that is not `__main__`; `call` calls one of its
 * functions; `run` runs a whole program as `__main__` with a standard input; `value` evaluates an expression;
 * `check` runs assertions in which given names are the program's functions, called in another interpreter.
 */
export function pythonHarness(transport: string): string {
  return `${transport}
def main(receive, transmit, begin_io, end_io):
    import sys, builtins, types, _json, json.decoder
    type_, len_, repr_, hex_, str_, isinstance_, getattr_ = type, len, repr, hex, str, isinstance, getattr
    list_, set_, dict_, tuple_, frozenset_, bytes_, bytearray_, complex_, float_, int_, bool_ = (
        list, set, dict, tuple, frozenset, bytes, bytearray, complex, float, int, bool)
    Exception_, BaseException_, MemoryError_, SyntaxError_, SystemExit_, RecursionError_ = (
        Exception, BaseException, MemoryError, SyntaxError, SystemExit, RecursionError)
    compile_, exec_, eval_ = compile, exec, eval
    quote = _json.encode_basestring_ascii
    scan = json.decoder.JSONDecoder().scan_once
    Module = types.ModuleType
    modules, stack_limit, own_modules = sys.modules, sys.getrecursionlimit(), set(sys.modules)
    set_limit, digits = sys.setrecursionlimit, getattr(sys, 'set_int_max_str_digits', None)

    # Iterators of these built-in types are given as the list of what they yield.
    lazy = tuple_(type_(x) for x in (map(int, ()), filter(None, ()), zip(), range(0), {}.keys(), {}.values(),
        {}.items(), reversed([]), enumerate(()), iter([]), (x for x in ()), iter(())))

    def encode(value, depth=0):
        kind = type_(value)
        if value is None: return 'null'
        if kind is bool_: return 'true' if value else 'false'
        if kind is str_: return quote(value)
        if kind is int_:
            return '["i","' + (repr_(value) if -10**15 < value < 10**15 else hex_(value)) + '"]'
        if kind is float_: return '["f","' + repr_(value) + '"]'
        if depth > 200: return '["x","nested too deep"]'
        if kind is list_: return '["l",[' + ','.join([encode(x, depth + 1) for x in value]) + ']]'
        if kind is tuple_: return '["t",[' + ','.join([encode(x, depth + 1) for x in value]) + ']]'
        if kind is set_ or kind is frozenset_:
            return '["s",[' + ','.join([encode(x, depth + 1) for x in value]) + ']]'
        if kind is dict_:
            return '["d",[' + ','.join(['[' + encode(k, depth + 1) + ',' + encode(v, depth + 1) + ']'
                                         for k, v in dict_.items(value)]) + ']]'
        if kind is bytes_ or kind is bytearray_: return '["b","' + kind.hex(value) + '"]'
        if kind is complex_: return '["c","' + repr_(value.real) + '","' + repr_(value.imag) + '"]'
        module = modules.get('collections')
        if module is not None and kind in (module.defaultdict, module.Counter, module.OrderedDict):
            return encode(dict_(dict_.items(value)), depth)
        if module is not None and kind is module.deque: return encode(list_(value), depth)
        for one in lazy:
            if kind is one: return encode(list_(value), depth)
        if 're' in modules and kind is modules['re'].Match:
            return encode((kind.group(value), *kind.groups(value)), depth)
        name = getattr_(kind, '__name__', '?')
        return '["x",' + quote(name if type_(name) is str_ else '?') + ']'

    def decode(wire):
        if type_(wire) is not list_: return wire
        tag = wire[0]
        if tag == 'i': return int_(wire[1], 0)
        if tag == 'f': return float_(wire[1])
        if tag == 'l': return [decode(x) for x in wire[1]]
        if tag == 't': return tuple_([decode(x) for x in wire[1]])
        if tag == 's': return set_([decode(x) for x in wire[1]])
        if tag == 'd': return {decode(k): decode(v) for k, v in wire[1]}
        if tag == 'b': return bytes_.fromhex(wire[1])
        if tag == 'c': return complex_(float_(wire[1]), float_(wire[2]))
        if tag == 'u': return None
        return Opaque(wire[1])

    class Opaque:
        """Something that is not plain: it equals nothing, not even itself."""
        def __init__(self, name): self.name = name
        def __eq__(self, other): return False
        def __ne__(self, other): return True
        __hash__ = None
        def __repr__(self): return '<' + self.name + '>'

    class Failed(Exception):
        pass

    class Left(BaseException):
        """os._exit of a whole program: the end of it, not of the interpreter."""

    def fresh(name):
        """A new module, registered so that dataclasses and pickles find it."""
        module = Module(name)
        module.__dict__['__builtins__'] = builtins
        modules[name] = module
        return module.__dict__

    def resolve(scope, name):
        parts = name.split('.')
        if parts[0] not in scope and 'Solution' in scope: parts.insert(0, 'Solution')
        found = scope[parts[0]]
        for part in parts[1:]:
            found = getattr_(found() if isinstance_(found, type_) else found, part)
        return found

    def leave(code=None): raise SystemExit_(code)
    builtins.exit = builtins.quit = leave
    state = {}

    def load(request):
        scope = fresh('solution')
        exec_(compile_(request['source'], 'solution.py', 'exec'), scope)
        state['scope'] = scope
        return 'null'

    def call(request):
        try: function = resolve(state['scope'], request['name'])
        except KeyError: raise NameError('the program does not define ' + request['name']) from None
        args = [decode(x) for x in request['args']]
        keywords = {k: decode(v) for k, v in request.get('keywords', ())}
        value = function(*args, **keywords)
        if 'changed' in request: value = args[request['changed']]
        return encode(value)

    def run(request):
        code = compile_(request['source'], 'solution.py', 'exec')
        sys.argv[:] = ['solution.py']
        os = modules.get('os')
        if os is not None:
            def left(code): raise Left(code)
            os._exit = left
        try: exec_(code, fresh('__main__'))
        except Left as end:
            if end.args[0] != 0: raise SystemExit_(end.args[0])
        except SystemExit_ as end:
            if end.code is not None and end.code is not False and end.code != 0: raise
        threads = modules.get('threading')
        if threads is not None:
            for one in threads.enumerate():
                if one is not threads.main_thread() and not one.daemon: one.join()
        if 'atexit' in modules: modules['atexit']._run_exitfuncs()
        return None

    def value(request):
        scope = fresh('expression')
        exec_(compile_(request.get('support', ''), 'support.py', 'exec'), scope)
        return encode(eval_(compile_(request['source'], 'expression.py', 'eval'), scope))

    def check(request):
        import random
        random.seed(request.get('seed', 0))
        def proxy(name):
            def called(*args, **keywords):
                pairs = ','.join(['[' + quote(k) + ',' + encode(v) + ']' for k, v in keywords.items()])
                transmit('{"nonce":' + quote(request['nonce']) + ',"ask":{"name":' + quote(name) + ',"args":['
                    + ','.join([encode(x) for x in args]) + '],"keywords":[' + pairs + ']}}')
                answer = scan(receive(), 0)[0]
                if 'fault' in answer: raise Failed(answer['fault'])
                return decode(answer['value'])
            called.__name__ = name.split('.')[-1]
            return called
        scope = fresh('tests')
        exec_(compile_(request.get('support', ''), 'support.py', 'exec'), scope)
        for name, target in request['proxies']: scope[name] = proxy(target)
        try: exec_(compile_(request['source'], 'tests.py', 'exec'), scope)
        except Failed: return 'false'
        except AssertionError: return 'false'
        return 'true'

    operations = {'load': load, 'call': call, 'run': run, 'value': value, 'check': check}

    def describe(error):
        try: text = type_(error).__name__ + ': ' + str_(error)
        except BaseException_: text = 'an exception that cannot be shown'
        return text[:400] if type_(text) is str_ else 'an exception that cannot be shown'

    def fault(kind, error): return '"error":"' + kind + '","message":' + quote(describe(error))

    def perform(request):
        if digits is not None: digits(0)
        try: return '"value":' + (operations[request['op']](request) or '""')
        except MemoryError_ as error: return fault('memory', error)
        except SystemExit_ as error: return fault('exit', error)
        except SyntaxError_ as error: return fault('compile' if 'source' in request else 'runtime', error)
        except BaseException_ as error:
            # What a full memory broke on its way up is still the memory's doing.
            if isinstance_(error.__context__, MemoryError_): return fault('memory', error)
            return fault('runtime', error)

    while True:
        line = receive()
        if not line: return
        request = scan(line, 0)[0]
        head = '{"nonce":' + quote(request['nonce']) + ','
        begin_io(request.get('stdin', ''))
        transmit(head + '"begun":true}')
        result = perform(request)
        set_limit(stack_limit)
        printed = end_io()
        if printed is None: result = '"error":"output-limit","message":"printed more than the output limit"'
        elif request['op'] == 'run' and result == '"value":""': result = '"value":' + quote(printed)
        transmit(head + result + '}')

main(receive, transmit, begin_io, end_io)
`;
}

/**
 * Transport for a real process: the channel is file descriptor 3. Standard input and output are memory files, so
 * that programs which read descriptor 0 or write descriptor 1 past Python's streams work too; the kernel's limit on
 * the size of files caps what is printed.
 */
export const processTransport = `
import os, sys, io, resource
sys.path[:] = [p for p in sys.path if p]
memory, output = int(sys.argv[1]), int(sys.argv[2])
for what, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_FSIZE, output + 1),
                    (resource.RLIMIT_NPROC, 64), (resource.RLIMIT_AS, memory)):
    resource.setrlimit(what, (limit, limit))

def channel(read=os.read, write=os.write):
    held = [b'']
    def receive():
        parts = [held[0]]
        while b'\\n' not in parts[-1]:
            block = read(3, 1 << 16)
            if not block: return ''
            parts.append(block)
        line, held[0] = b''.join(parts).split(b'\\n', 1)
        return line.decode()
    def transmit(text):
        data = text.encode() + b'\\n'
        while data: data = data[write(3, data):]
    return receive, transmit

def streams(os=os, memfd=os.memfd_create, dup2=os.dup2, lseek=os.lseek, truncate=os.ftruncate, read=os.read,
            write=os.write, size=lambda fd, stat=os.fstat: stat(fd).st_size, close=os.close, io=io, sys=sys):
    out = memfd('out')
    state = {}
    def opened(fd, mode, **kw): return io.TextIOWrapper(io.open(fd, mode, closefd=False), encoding='utf-8', **kw)
    def begin_io(text):
        given = memfd('in')
        data = text.encode('utf-8', 'surrogatepass')
        while data: data = data[write(given, data):]
        lseek(given, 0, 0)
        if given != 0: dup2(given, 0)
        if given != 0: close(given)
        truncate(out, 0)
        lseek(out, 0, 0)
        dup2(out, 1)
        dup2(null, 2)
        state['in'] = sys.stdin = sys.__stdin__ = opened(0, 'rb')
        state['out'] = sys.stdout = sys.__stdout__ = opened(1, 'wb', errors='replace', newline='\\n')
    def end_io():
        for stream in (sys.stdout, state['out']):
            try: stream.flush()
            except BaseException: pass
        length = size(out)
        if length > output: return None
        lseek(out, 0, 0)
        parts = []
        while True:
            block = read(out, 1 << 20)
            if not block: break
            parts.append(block)
        return b''.join(parts).decode('utf-8', 'replace')
    null = os.open('/dev/null', os.O_RDWR)
    return begin_io, end_io

receive, transmit = channel()
begin_io, end_io = streams()
`;
