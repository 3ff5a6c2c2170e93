#!/usr/bin/ruby
# Ruby's own CGI library: fields, an upload, cookies, a status.
require 'cgi'
require 'digest'

cgi = CGI.new
case cgi.path_info
when '/teapot'
  cgi.out('type' => 'text/plain', 'status' => "418 I'm a teapot") { "short and stout\n" }
when '/cookie'
  cookie = CGI::Cookie.new('name' => 'flavour', 'value' => ['oat', 'a b'], 'path' => '/', 'httponly' => true)
  cgi.out('type' => 'text/plain', 'cookie' => [cookie], 'language' => 'en') { cgi.cookies['flavour'].to_a.inspect + "\n" }
when '/away'
  print cgi.http_header('status' => '302 Found', 'Location' => 'http://www.example.org:8080/elsewhere')
else
  cgi.out('text/plain; charset=utf-8') do
    cgi.params.sort.map do |name, values|
      values.map do |value|
        next "#{name}=#{value}\n" unless value.respond_to?(:original_filename) && value.original_filename
        bytes = value.read
        "#{name}: #{value.original_filename} #{value.content_type} #{bytes.bytesize} #{Digest::SHA256.hexdigest(bytes)}\n"
      end.join
    end.join
  end
end
